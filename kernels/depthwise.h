// Depthwise k x k convolution, k in {3, 5, 7}, stride 1 or 2, on prefix widths.
//
//   y[n,p,q,c]  = sum_{i,j} w[i,j,c] * u[n, p*stride + i - top, q*stride + j - left, c]
//   du[n,h,w,c] = sum over (p,q,i,j) that read it of w[i,j,c]*dy[n,p,q,c]
//   dw[i,j,c]  += sum_{n,p,q} dy*u + decay*w[i,j,c]
//
// u is zero outside the image (zero after normalisation and activation, not before them).
// w is [k][k][c.max] (Filter::in), used up to in.now. Backward is one pass over dz, y and x.
// Floor: forward x + y elements; backward reads dz, y, x, the addend of dx where there is one, and
// writes dx. Of an x that is made again the floor has what it is made of instead, at 2*rows*e*c
// more flops a pass. Sums over rows: chunks that depend on the shape only, added in order.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct DepthwiseForward {
  Source x;  // ungated
  Filter w;
  int stride = 1;
  int top = 0, left = 0;  // zero pixels before the first row and column
  Moments moments;
  Tensor y;
  Expansion expansion = {};  // of x, whose y then has a shape and no data
};

struct DepthwiseBackward {
  Incoming dy;
  Source x;  // ungated
  Filter w;
  int stride = 1;
  int top = 0, left = 0;
  float decay = 0;
  SourceGrad dx;
  Filter dw;                 // data null: not wanted
  Expansion expansion = {};  // of x, whose y then has a shape and no data
};

/// Of making x again, once; 0 without an expansion.
Cost cost(const Expansion& expansion);
Cost cost(const DepthwiseForward& args);
Cost cost(const DepthwiseBackward& args);
namespace cpu {
void depthwise(CpuContext& context, const DepthwiseForward& args);
void depthwise_backward(CpuContext& context, const DepthwiseBackward& args);
}  // namespace cpu
namespace cuda {
// Tiles share the window's halo rows and columns, and the sectors their channels end in; a warp's
// pixels lie in one another's banks. Partial sums of dw are k*k a channel, for few pixels in a
// test.
inline constexpr Slack depthwise_slack(int k) {
  return {k == 3 ? 1.55 : k == 5 ? 1.8 : 2.05, 0.1, 1.45, 1.95};
}
inline constexpr Slack depthwise_backward_slack(int k) {
  return {k == 3 ? 1.6 : 1.75, k == 3 ? 0.15 : 0.45, 1.45, 2};
}
// Of an expansion the source is read with the halo and once for each group of channels, at most
// four times where k is 5; the weights once a block, which has few pixels in a test.
inline constexpr Slack kDepthwiseExpandedSlack{2.9, 0.35, 1.55, 1.95};
inline constexpr Slack kDepthwiseExpandedBackwardSlack{1.95, 0.3, 1.45, 2};
void depthwise(CudaContext& context, const DepthwiseForward& args);
void depthwise_backward(CudaContext& context, const DepthwiseBackward& args);
}  // namespace cuda

inline void depthwise(Stream stream, const DepthwiseForward& args) {
  on<cpu::depthwise, cuda::depthwise>(stream, args);
}
inline void depthwise_backward(Stream stream, const DepthwiseBackward& args) {
  on<cpu::depthwise_backward, cuda::depthwise_backward>(stream, args);
}

}  // namespace tunas::kernels
