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
// Without y: in and 2*in + out. An addend of dx is read, too.
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
// A block reads its weights and its channels' constants for few rows; constants lie a few floats a
// lane apart, and the finished tile's rows meet in banks. Beyond 128 columns of y forward reads x
// again. Backward reads dz, y and x once where dw fits the registers of a block
// (pointwise_joint.cu), dz and y again for every other slice of x up to 256 columns of y, and
// beyond those in two products. The partial sums are those of whole dw, for the few rows of a test;
// at a batch of 128 they stay below half of the tensors. What is not stored is measured against
// what little is left to move.
inline constexpr Slack kPointwiseSlack{1.25, 0.1, 1.25, 2.1};
inline constexpr Slack kPointwiseWideSlack{2.7, 0.15, 1.25, 1.6};
inline constexpr Slack kPointwiseNotStoredSlack{5.2, 0.5, 1.25, 1.6};
inline constexpr Slack kPointwiseBackwardSlack{1.2, 0.9, 1.2, 1.2};
inline constexpr Slack kPointwiseSlicedBackwardSlack{2.8, 1.8, 1.6, 1.15};
inline constexpr Slack kPointwiseWideBackwardSlack{3.6, 1.8, 1.4, 1.15};
inline constexpr Slack kPointwiseNotStoredBackwardSlack{6, 4.5, 1.25, 1.15};
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
