// Global average pooling, also the squeeze of squeeze-and-excite.
//
//   y[n,0,0,c] = mean over h,w of a[n,h,w,c]        (a = act(z): the source without its gate)
//   backward: da = dy[n,c]/(h*w) + partial[n,h,w,c];  dz = da*act'(z), with the sums of source.h
//
// `partial` is what a gated reader left (SourceGrad::dgate): du*gate. It may be dx.dz itself; the
// result then overwrites it in place. Without it, dx.how is honoured.
// Where x is a convolution's output, backward needs no pass over it: spread.h does it with the
// slope sums that forward leaves,
//
//   slope_sums[0][n,c] = sum over h,w of act'(z);   slope_sums[1][n,c] = sum of act'(z)*(y - mean)
//
// Floor: x once; backward x, partial and dz once.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct PoolForward {
  Source x;                     // its gate is ignored
  Tensor y;                     // [n][1][1][c]
  const float* mean = nullptr;  // [c] of the normalisation of x
  float* slope_sums = nullptr;  // [2][n][c]; null: not wanted
};

struct PoolBackward {
  Tensor dy;       // [n][1][1][c]
  Source x;        // its gate is ignored
  Tensor partial;  // data null: none
  SourceGrad dx;
};

Cost cost(const PoolForward& args);
Cost cost(const PoolBackward& args);
namespace cpu {
void pool(CpuContext& context, const PoolForward& args);
void pool_backward(CpuContext& context, const PoolBackward& args);
}  // namespace cpu
namespace cuda {
// As mix; a block has rows of one image only.
inline constexpr Slack kPoolSlack{1.15, 0.15, 1.6, 1.5};
void pool(CudaContext& context, const PoolForward& args);
void pool_backward(CudaContext& context, const PoolBackward& args);
}  // namespace cuda

inline void pool(Stream stream, const PoolForward& args) {
  on<cpu::pool, cuda::pool>(stream, args);
}
inline void pool_backward(Stream stream, const PoolBackward& args) {
  on<cpu::pool_backward, cuda::pool_backward>(stream, args);
}

}  // namespace tunas::kernels
