// Mix: the weighted sum of up to four sources, written out. Residual sums (weights 1), the average
// of enabled operations in warm-up (weights 1/n), and with one term "normalise and activate".
//
//   out = sum_t weight[t] * act_t(scale_t*y_t + shift_t)
//   backward of one term: dz = weight*dout*act'(z), with the sums of source.h
//
// A term whose convolution can take a deferred gradient (source.h) needs no dz of its own, only its
// sums, which mix_sums leaves for all terms in one pass over dout and their y. One that a later
// reader's kernel takes as its addend needs neither.
//
// Floor: every term and out once; backward reads dout and y (y only if act or sums need it),
// writes dz; the sums read dout and every y once.
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

/// S1 and S2 of dz = weight*dout*act'(z) for every term.
struct MixSums {
  struct Term {
    float weight = 1;
    Source x;                        // normalised, ungated, of dout's shape
    Write how = Write::overwrite;    // of the sums
    const float* mean = nullptr;     // [c]
    const float* inv_std = nullptr;  // [c]
    float* sum_dz = nullptr;         // [c]
    float* sum_dz_xhat = nullptr;    // [c]

    TUNAS_HD SourceGrad grad() const { return {{}, how, mean, inv_std, sum_dz, sum_dz_xhat}; }
  };
  Tensor dout;
  int terms = 0;
  Term term[MixForward::kMaxTerms];
};

Cost cost(const MixForward& args);
Cost cost(const MixBackward& args);
Cost cost(const MixSums& args);
namespace cpu {
void mix(CpuContext& context, const MixForward& args);
void mix_backward(CpuContext& context, const MixBackward& args);
void mix_sums(CpuContext& context, const MixSums& args);
}  // namespace cpu
namespace cuda {
// A thread's constants serve few rows in a test; its sums of eight channels meet in banks.
inline constexpr Slack kMixSlack{1.15, 0.15, 1.3, 2.6};
// Partial sums are all that it writes, eight channels a lane, for few rows in a test.
inline constexpr Slack kMixSumsSlack{1.15, 0.2, 1.45, 2.6};
void mix(CudaContext& context, const MixForward& args);
void mix_backward(CudaContext& context, const MixBackward& args);
void mix_sums(CudaContext& context, const MixSums& args);
}  // namespace cuda

inline void mix(Stream stream, const MixForward& args) { on<cpu::mix, cuda::mix>(stream, args); }
inline void mix_backward(Stream stream, const MixBackward& args) {
  on<cpu::mix_backward, cuda::mix_backward>(stream, args);
}
inline void mix_sums(Stream stream, const MixSums& args) {
  on<cpu::mix_sums, cuda::mix_sums>(stream, args);
}

}  // namespace tunas::kernels
