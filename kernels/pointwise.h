// Pointwise (1x1) convolution on prefix widths; with h = w = 1 the fully connected layer.
//
//   y[r,o] = sum_i w[o,i] * u[r,i] (+ bias[o])          r = rows n*h*w, u = Source value
//   du[r,i] = sum_o w[o,i] * dy[r,o];   dw[o,i] += sum_r dy[r,o]*u[r,i] + decay*w[o,i]
//   dbias[o] += sum_r dy[r,o]
//
// w is the prefix [out.now][in.now] of [out.max][in.max]. Weight gradients always add: the store
// is zeroed once a shard; elements beyond the prefix are never touched. out.now may be any size
// (the classifier) when y's width is round_up_8(out.now): the extra columns are written as zero.
//
// On CUDA x, w and dz are of one type, bf16 or f32; y of bf16 operands may be f32 (the logits,
// which bf16 would round before the softmax), while their dz is bf16 again.
//
// An output that is not stored (Expansion of source.h) has a forward pass that leaves its moments
// and a backward pass in which y = w*u is replaced by what it is, with K = sum_r u[r]*u[r]^T:
//
//   du[r] = dz[r]*(diag(ca)*w) + u[r]*(w^T*diag(cb)*w) + cc^T*w
//   dw    = diag(ca)*sum_r dz[r]^T*u[r] + diag(cb)*w*K + cc*sum_r u[r]^T      (+ decay*w)
//
// Its source is ungated and of 256 channels at most; there is no bias and nothing deferred.
//
// Floor: forward rows*(in + out) elements; backward reads dz, y, x and writes dx: 2*(in + out).
// Without y: in and 2*in + out.
// Sums over rows: chunks of rows that depend on the shape only, added in order.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct PointwiseForward {
  Source x;
  Filter w;
  const float* bias = nullptr;
  Moments moments;
  Tensor y;  // data null, shape given: only its moments are wanted (no bias then)
};

struct PointwiseBackward {
  Incoming dy;
  Source x;
  Filter w;
  float decay = 0;  // L2: weight decay times the product of enclosing mask weights
  SourceGrad dx;
  Filter dw;               // data null: not wanted
  float* dbias = nullptr;  // null: not wanted
};

Cost cost(const PointwiseForward& args);
Cost cost(const PointwiseBackward& args);
namespace cpu {
void pointwise(CpuContext& context, const PointwiseForward& args);
void pointwise_backward(CpuContext& context, const PointwiseBackward& args);
}  // namespace cpu
namespace cuda {
// A block reads its weights
inline constexpr Slack kPointwiseSlack{1.25, 0.1, 1.25, 2.1};
inline constexpr Slack kPointwiseWideSlack{2.4, 0.1, 1.25, 1.6};
inline constexpr Slack kPointwiseNotStoredSlack{2.4, 0.1, 1.25, 1.6};
inline constexpr Slack kPointwiseBackwardSlack{2.1, 1, 1.5, 1.5};
inline constexpr Slack kPointwiseSlicedBackwardSlack{2.1, 1, 1.5, 1.5};
inline constexpr Slack kPointwiseWideBackwardSlack{3.6, 3, 1.9, 1.5};
void pointwise(CudaContext& context, const PointwiseForward& args);
void pointwise_backward(CudaContext& context, const PointwiseBackward& args);
}  // namespace cuda

inline void pointwise(Stream stream, const PointwiseForward& args) {
  on<cpu::pointwise, cuda::pointwise>(stream, args);
}
inline void pointwise_backward(Stream stream, const PointwiseBackward& args) {
  on<cpu::pointwise_backward, cuda::pointwise_backward>(stream, args);
}

}  // namespace tunas::kernels
