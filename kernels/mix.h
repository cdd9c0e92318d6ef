// Mix: the weighted sum of up to four sources, written out. Residual sums (weights 1), the average
// of enabled operations in warm-up (weights 1/n), and with one term "normalise and activate".
//
//   out = sum_t weight[t] * act_t(scale_t*y_t + shift_t)
//   backward of one term: dz = weight*dout*act'(z), with the sums of source.h
//
// Floor: every term and out once; backward reads dout and y (y only if act or sums need it),
// writes dz.
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct MixForward {
  static constexpr int kMaxTerms = 4;
  int terms = 0;
  float weight[kMaxTerms] = {};
  Source x[kMaxTerms];  // ungated, all of out's shape
  Tensor out;
};

struct MixBackward {
  Tensor dout;
  float weight = 1;
  Source x;
  SourceGrad dx;
};

Cost cost(const MixForward& args);
Cost cost(const MixBackward& args);
namespace cpu {
void mix(CpuContext& context, const MixForward& args);
void mix_backward(CpuContext& context, const MixBackward& args);
}  // namespace cpu
namespace cuda {
// A thread's constants serve few rows in a test; its sums of eight channels meet in banks.
inline constexpr Slack kMixSlack{1.15, 0.15, 1.3, 2.6};
void mix(CudaContext& context, const MixForward& args);
void mix_backward(CudaContext& context, const MixBackward& args);
}  // namespace cuda

inline void mix(Stream stream, const MixForward& args) { on<cpu::mix, cuda::mix>(stream, args); }
inline void mix_backward(Stream stream, const MixBackward& args) {
  on<cpu::mix_backward, cuda::mix_backward>(stream, args);
}

}  // namespace tunas::kernels
