// Optimizer updates over the flat parameter store, one call a step.
//
//   g = scale*grad                                            (scale: 1/shards, the mean)
//   rms_prop  ms <- decay*ms + (1-decay)*g^2;  mom <- momentum*mom + rate*g/sqrt(ms + epsilon);
//             w <- w - mom       (TensorFlow v1: epsilon inside the root; section 9)
//   sgd       mom <- momentum*mom + (g + weight_decay*w);  w <- w - rate*mom     (as PyTorch)
//   add       a += b                                          (one edge of the shard tree)
//
// Floor: every array once; update reads 4 and writes 3 values a parameter (sgd: 3 and 2).
#pragma once

#include <cstddef>

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct RmsProp {
  std::size_t size = 0;
  const float* grad = nullptr;
  float* w = nullptr;
  float* ms = nullptr;   // starts at 1
  float* mom = nullptr;  // starts at 0
  float scale = 1;
  float rate = 0;
  float decay = 0.9f, momentum = 0.9f, epsilon = 1.0f;
  void* shadow = nullptr;  // [size] bf16 copy of w, written; null: none
};

struct Sgd {
  std::size_t size = 0;
  const float* grad = nullptr;
  float* w = nullptr;
  float* mom = nullptr;
  float scale = 1;
  float rate = 0;
  float momentum = 0.9f, weight_decay = 0;
  void* shadow = nullptr;  // [size] bf16 copy of w, written; null: none
};

struct Add {
  std::size_t size = 0;
  float* a = nullptr;
  const float* b = nullptr;
};

Cost cost(const RmsProp& args);
Cost cost(const Sgd& args);
Cost cost(const Add& args);
namespace cpu {
void rms_prop(CpuContext& context, const RmsProp& args);
void sgd(CpuContext& context, const Sgd& args);
void add(CpuContext& context, const Add& args);
}  // namespace cpu
namespace cuda {
void rms_prop(CudaContext& context, const RmsProp& args);
void sgd(CudaContext& context, const Sgd& args);
void add(CudaContext& context, const Add& args);
}  // namespace cuda

inline void rms_prop(Stream stream, const RmsProp& args) {
  on<cpu::rms_prop, cuda::rms_prop>(stream, args);
}
inline void sgd(Stream stream, const Sgd& args) { on<cpu::sgd, cuda::sgd>(stream, args); }
inline void add(Stream stream, const Add& args) { on<cpu::add, cuda::add>(stream, args); }

}  // namespace tunas::kernels
