// How tensors enter and leave a fused kernel.
//
// A convolution stores its raw output y once. Whoever reads it applies the normalisation and the
// activation while loading (Source); in backward the reader leaves the gradient with respect to
// the normalised value z and the two sums the normalisation backward needs (SourceGrad); the
// convolution's own backward turns that into the gradient of y while loading (Incoming):
//
//   forward   z = scale[c]*y + shift[c];  a = act(z);  u = a * gate[n,c]        (the value read)
//   backward  dz = da * act'(z);  S1[c] = sum dz;  S2[c] = sum dz*xhat,  xhat = (y - mean)*inv_std
//             dy = scale*(dz - S1/N - xhat*S2/N) = ca[c]*dz + cb[c]*y + cc[c]
//
// act'(0) = 0 for relu and relu6 (relu6 also at 6); hard_sigmoid': 0 outside (-3, 3); hard_swish':
// 0 up to -3 and 1 from 3 on.
#pragma once

#include "kernels/cost.h"

namespace tunas::kernels {

struct Source {
  Tensor y;
  const float* scale = nullptr;  // [c]; null: z = y
  const float* shift = nullptr;  // [c]; null exactly when scale is
  Act act = Act::none;
  const float* gate = nullptr;  // [n][c]; null: u = a
};

struct SourceGrad {
  Tensor dz;  // shape of y; data null: no gradient is wanted (then nothing here is touched)
  Write how = Write::overwrite;    // of dz, sum_dz and sum_dz_xhat
  const float* mean = nullptr;     // [c] of the normalisation; null: no sums are wanted
  const float* inv_std = nullptr;  // [c]
  float* sum_dz = nullptr;         // [c] S1
  float* sum_dz_xhat = nullptr;    // [c] S2
  /// [n][c], gated sources only: sum over pixels of du*a, overwritten. dz then receives du*gate,
  /// the gradient of a *without* act'(z), and no sums; pool_backward finishes it.
  float* dgate = nullptr;
};

/// Gradient that reaches a raw output: dy = ca*dz + cb*y + cc, or dz itself where ca is null.
struct Incoming {
  Tensor dz;
  Tensor y;  // raw output; unused where ca is null
  const float* ca = nullptr;
  const float* cb = nullptr;
  const float* cc = nullptr;
};

/// Per-channel mean and biased variance over n*h*w of a raw output, from (mean, M2) pairs of tiles
/// merged in tile order. Null: not wanted.
struct Moments {
  float* mean = nullptr;
  float* variance = nullptr;
};

}  // namespace tunas::kernels
