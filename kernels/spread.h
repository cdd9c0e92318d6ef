// Spread: the backward pass of global average pooling (pool.h) over a convolution's output, without
// a pass over that output. It makes what the convolution's backward reads as Deferred::spread, and
// the sums that its normalisation needs, from sums over the pixels of each image:
//
//   spread[n,c] = dy[n,c]/pixels
//   S1[c] = sum_n (spread*Q1 + P1)[n,c];   S2[c] = inv_std[c] * sum_n (spread*Q2 + P2)[n,c]
//
// Q are the slope sums of the pool's forward pass, P those of a gated reader of the same tensor
// (SourceGrad::slope_sums; squeeze-and-excite), if there is one. Sums over n are added in order.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/tensor.h"

namespace tunas::kernels {

struct Spread {
  Tensor dy;  // [n][1][1][c]
  int pixels = 1;
  const float* slopes = nullptr;  // Q: [2][n][c]
  const float* gated = nullptr;   // P: [2][n][c]; null: none
  const float* inv_std = nullptr;
  float* spread = nullptr;       // [n][c]
  float* sum_dz = nullptr;       // S1, overwritten
  float* sum_dz_xhat = nullptr;  // S2, overwritten
};

Cost cost(const Spread& args);
namespace cpu {
void spread(CpuContext& context, const Spread& args);
}  // namespace cpu
namespace cuda {
void spread(CudaContext& context, const Spread& args);
}  // namespace cuda

inline void spread(Stream stream, const Spread& args) {
  on<cpu::spread, cuda::spread>(stream, args);
}

}  // namespace tunas::kernels
