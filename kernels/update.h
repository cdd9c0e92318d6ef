// Optimizer updates over the flat parameter store, one call a step.
//
//   g = scale*grad                                            (scale: 1/shards, the mean)
//   rms_prop  ms <- decay*ms + (1-decay)*g^2;  mom <- momentum*mom + rate*g/sqrt(ms + epsilon);
//             w <- w - mom       (TensorFlow v1: epsilon inside the root; section 9)
//   sgd       mom <- momentum*mom + (g + weight_decay*w);  w <- w - rate*mom     (as PyTorch)
//   add       a += b                                          (one edge of the shard tree)
//   average   mean <- mean + (1-decay)*(value - mean)         (of weights, for evaluation)
//   mean      mean <- sum/shards                              (of what shards moved each for
//   itself)
//
// An element whose gradient is not finite is left as it is and counted, so that one bad step costs
// nothing but itself.
//
// Floor: every array once; update reads 4 and writes 3 values a parameter (sgd: 3 and 2).
#pragma once

#include <cstddef>
#include <cstdint>

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
  void* shadow = nullptr;               // [size] bf16 copy of w, written; null: none
  std::uint32_t* not_finite = nullptr;  // add: elements left as they were; null: not counted
};

struct Sgd {
  std::size_t size = 0;
  const float* grad = nullptr;
  float* w = nullptr;
  float* mom = nullptr;
  float scale = 1;
  float rate = 0;
  float momentum = 0.9f, weight_decay = 0;
  void* shadow = nullptr;               // [size] bf16 copy of w, written; null: none
  std::uint32_t* not_finite = nullptr;  // add: elements left as they were; null: not counted
};

struct Add {
  std::size_t size = 0;
  float* a = nullptr;
  const float* b = nullptr;
};

struct Average {
  std::size_t size = 0;
  const float* value = nullptr;
  float* mean = nullptr;
  float decay = 0.9999f;
};

struct ShardMean {
  std::size_t size = 0;
  int shards = 1;
  const float* sum = nullptr;  // over the shards
  float* mean = nullptr;
};

Cost cost(const RmsProp& args);
Cost cost(const Sgd& args);
Cost cost(const Add& args);
Cost cost(const Average& args);
Cost cost(const ShardMean& args);
namespace cpu {
void rms_prop(CpuContext& context, const RmsProp& args);
void sgd(CpuContext& context, const Sgd& args);
void add(CpuContext& context, const Add& args);
void average(CpuContext& context, const Average& args);
void shard_mean(CpuContext& context, const ShardMean& args);
}  // namespace cpu
namespace cuda {
void rms_prop(CudaContext& context, const RmsProp& args);
void sgd(CudaContext& context, const Sgd& args);
void add(CudaContext& context, const Add& args);
void average(CudaContext& context, const Average& args);
void shard_mean(CudaContext& context, const ShardMean& args);
}  // namespace cuda

inline void rms_prop(Stream stream, const RmsProp& args) {
  on<cpu::rms_prop, cuda::rms_prop>(stream, args);
}
inline void sgd(Stream stream, const Sgd& args) { on<cpu::sgd, cuda::sgd>(stream, args); }
inline void add(Stream stream, const Add& args) { on<cpu::add, cuda::add>(stream, args); }
inline void average(Stream stream, const Average& args) {
  on<cpu::average, cuda::average>(stream, args);
}
inline void shard_mean(Stream stream, const ShardMean& args) {
  on<cpu::shard_mean, cuda::shard_mean>(stream, args);
}

}  // namespace tunas::kernels
