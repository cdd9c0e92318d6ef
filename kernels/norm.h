// Batch normalisation, the per-channel part: what a reader needs to apply it on load, and what the
// convolution's backward needs to undo it on load. All arrays are [c]; there is no large tensor.
//
//   inv_std = 1/sqrt(variance + epsilon);  scale = gamma*inv_std;  shift = beta - mean*scale
//   running <- running - (1-momentum)*(running - batch), the variance with N/(N-1)   (section 6)
//   ca = scale;  cb = -scale*inv_std*S2/N;  cc = -scale*S1/N + scale*inv_std*mean*S2/N
//   dgamma += S2;  dbeta += S1                                  (S1, S2 of source.h, N = rows)
//
// Where mean, variance, scale or shift of a channel is NaN or infinite, its scale is NaN, so that
// the gradient of the convolution before it is not finite either, whatever activations swallow; and
//   origin <- min(origin, position)
// The first layer of a forward pass that is not finite is then known at no cost.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct NormForward {
  int c = 0;
  long rows = 0;
  float epsilon = 1e-3f;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const float* mean = nullptr;      // of the batch, or the running average itself
  const float* variance = nullptr;  // biased; or the running average
  float* inv_std = nullptr;
  float* scale = nullptr;
  float* shift = nullptr;
  float momentum = 0.99f;
  float* running_mean = nullptr;  // null: no running averages are kept
  float* running_variance = nullptr;
  std::uint32_t position = 0;       // of this layer in the network
  std::uint32_t* origin = nullptr;  // in the device's memory; null: not looked at
};

struct NormBackward {
  int c = 0;
  long rows = 0;
  const float* mean = nullptr;
  const float* inv_std = nullptr;
  const float* scale = nullptr;
  const float* sum_dz = nullptr;
  const float* sum_dz_xhat = nullptr;
  float* ca = nullptr;
  float* cb = nullptr;
  float* cc = nullptr;
  float* dgamma = nullptr;  // add
  float* dbeta = nullptr;   // add
};

Cost cost(const NormForward& args);
Cost cost(const NormBackward& args);
namespace cpu {
void norm(CpuContext& context, const NormForward& args);
void norm_backward(CpuContext& context, const NormBackward& args);
}  // namespace cpu
namespace cuda {
void norm(CudaContext& context, const NormForward& args);
void norm_backward(CudaContext& context, const NormBackward& args);
}  // namespace cuda

inline void norm(Stream stream, const NormForward& args) {
  on<cpu::norm, cuda::norm>(stream, args);
}
inline void norm_backward(Stream stream, const NormBackward& args) {
  on<cpu::norm_backward, cuda::norm_backward>(stream, args);
}

}  // namespace tunas::kernels
