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
//   check     not_finite += [g is NaN or infinite];  last <- max(last, index of such a g)
//
// Where a verdict counts any element, updates and means do nothing at all, so that a step that is
// not finite leaves no trace. They must know of all elements first: the check is a pass of its own.
//
// Floor: every array once; update reads 4 and writes 3 values a parameter (sgd: 3 and 2), the check
// reads one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

/// Of a gradient, in the device's memory; zero before the check.
struct Verdict {
  std::uint32_t not_finite = 0;  // elements
  std::uint32_t last = 0;        // the largest index of one
};

struct FiniteCheck {
  std::size_t size = 0;  // below 2^32
  const float* grad = nullptr;
  Verdict* verdict = nullptr;  // add
};

struct RmsProp {
  std::size_t size = 0;
  const float* grad = nullptr;
  float* w = nullptr;
  float* ms = nullptr;   // starts at 1
  float* mom = nullptr;  // starts at 0
  float scale = 1;
  float rate = 0;
  float decay = 0.9f, momentum = 0.9f, epsilon = 1.0f;
  void* shadow = nullptr;            // [size] bf16 copy of w, written; null: none
  const Verdict* verdict = nullptr;  // null: none
};

struct Sgd {
  std::size_t size = 0;
  const float* grad = nullptr;
  float* w = nullptr;
  float* mom = nullptr;
  float scale = 1;
  float rate = 0;
  float momentum = 0.9f, weight_decay = 0;
  void* shadow = nullptr;            // [size] bf16 copy of w, written; null: none
  const Verdict* verdict = nullptr;  // null: none
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
  const Verdict* verdict = nullptr;  // null: none
};

struct ShardMean {
  std::size_t size = 0;
  int shards = 1;
  const float* sum = nullptr;  // over the shards
  float* mean = nullptr;
  const Verdict* verdict = nullptr;  // null: none
};

Cost cost(const FiniteCheck& args);
Cost cost(const RmsProp& args);
Cost cost(const Sgd& args);
Cost cost(const Add& args);
Cost cost(const Average& args);
Cost cost(const ShardMean& args);
namespace cpu {
void finite_check(CpuContext& context, const FiniteCheck& args);
void rms_prop(CpuContext& context, const RmsProp& args);
void sgd(CpuContext& context, const Sgd& args);
void add(CpuContext& context, const Add& args);
void average(CpuContext& context, const Average& args);
void shard_mean(CpuContext& context, const ShardMean& args);
}  // namespace cpu
namespace cuda {
void finite_check(CudaContext& context, const FiniteCheck& args);
void rms_prop(CudaContext& context, const RmsProp& args);
void sgd(CudaContext& context, const Sgd& args);
void add(CudaContext& context, const Add& args);
void average(CudaContext& context, const Average& args);
void shard_mean(CudaContext& context, const ShardMean& args);
}  // namespace cuda

inline void finite_check(Stream stream, const FiniteCheck& args) {
  require(args.size >> 32 == 0, "finite_check: ", args.size,
          " elements; their numbers must fit into 32 bits");
  on<cpu::finite_check, cuda::finite_check>(stream, args);
}
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
