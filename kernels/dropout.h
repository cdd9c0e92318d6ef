// Dropout: element i of the source is kept when uniform(philox(key, i/4)[i%4]) >= rate.
//
//   out = kept ? a/(1-rate) : 0;   dz = kept ? dout/(1-rate)*act'(z) : 0, with the sums of source.h
//
// i counts elements in [n][h][w][c] order at the active width. Nothing is stored for backward. The
// key lies in the kernel's memory, so that a graph replayed in another step draws other numbers.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/philox.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct DropoutForward {
  Source x;  // ungated
  float rate = 0;
  const PhiloxKey* key = nullptr;
  Tensor out;
};

struct DropoutBackward {
  Tensor dout;
  Source x;
  float rate = 0;
  const PhiloxKey* key = nullptr;
  SourceGrad dx;
};

Cost cost(const DropoutForward& args);
Cost cost(const DropoutBackward& args);
namespace cpu {
void dropout(CpuContext& context, const DropoutForward& args);
void dropout_backward(CpuContext& context, const DropoutBackward& args);
}  // namespace cpu
namespace cuda {
// As mix, with one pixel an image: a block has few rows for its channels' constants.
inline constexpr Slack kDropoutSlack{1.15, 0.2, 1.7, 1.2};
void dropout(CudaContext& context, const DropoutForward& args);
void dropout_backward(CudaContext& context, const DropoutBackward& args);
}  // namespace cuda

inline void dropout(Stream stream, const DropoutForward& args) {
  on<cpu::dropout, cuda::dropout>(stream, args);
}
inline void dropout_backward(Stream stream, const DropoutBackward& args) {
  on<cpu::dropout_backward, cuda::dropout_backward>(stream, args);
}

}  // namespace tunas::kernels
