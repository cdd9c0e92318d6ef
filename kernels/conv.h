// Dense k x k convolution of the stem, on images stored with 4 channels and their border of zeros
// written in, so that it is a valid convolution; the image needs no gradient.
//
//   y[n,p,q,o] = sum_{i,j,c} w[o,i,j,c] * image[n, p*stride + i + top, q*stride + j + left, c]
//   dw[o,i,j,c] += sum_{n,p,q} dy[n,p,q,o]*image[...] + decay*w[o,i,j,c]
//
// `top`, `left`: border - pad_before, where this filter's first tap sits in the stored image.
// w is [out.max][k][k][4] with in = {4, 4}; the fourth channel of image and weight is zero.
// Floor: the image and y once forward; image, dz and y once backward.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct ConvForward {
  Tensor image;  // [n][H][W][4]
  Filter w;
  int stride = 1;
  int top = 0, left = 0;
  Moments moments;
  Tensor y;
};

struct ConvBackward {
  Incoming dy;
  Tensor image;
  Filter w;
  int stride = 1;
  int top = 0, left = 0;
  float decay = 0;
  Filter dw;
};

Cost cost(const ConvForward& args);
Cost cost(const ConvBackward& args);
namespace cpu {
void conv(CpuContext& context, const ConvForward& args);
void conv_backward(CpuContext& context, const ConvBackward& args);
}  // namespace cpu
namespace cuda {
// Rows of blocks overlap by the window; its columns and taps are read again from the first-level
// cache. A block's partial sums are the whole dw, for few rows in a test.
inline constexpr Slack kConvSlack{1.15, 0.1, 2, 1.7};
inline constexpr Slack kConvBackwardSlack{1.25, 1.3, 1.6, 1.5};
void conv(CudaContext& context, const ConvForward& args);
void conv_backward(CudaContext& context, const ConvBackward& args);
}  // namespace cuda

inline void conv(Stream stream, const ConvForward& args) {
  on<cpu::conv, cuda::conv>(stream, args);
}
inline void conv_backward(Stream stream, const ConvBackward& args) {
  on<cpu::conv_backward, cuda::conv_backward>(stream, args);
}

}  // namespace tunas::kernels
