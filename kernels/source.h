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

/// A gradient of the same value that another reader, a sum, left to this one: with da the gradient
/// of the sum,
///
///   dz = (du + weight*da) * act'(z),  S1 and S2 of that
///
/// This costs one reading of da, which may lie where dz is written. What it saves is a pass that
/// reads da and y and writes dz for this reader to read again.
struct Addend {
  Tensor da;  // shape and type of dz; data null: there is none
  float weight = 1;
};

struct SourceGrad {
  Tensor dz;  // shape of y; data null: no gradient is wanted (then nothing here is touched)
  Write how = Write::overwrite;    // of dz, sum_dz and sum_dz_xhat
  const float* mean = nullptr;     // [c] of the normalisation; null: no sums are wanted
  const float* inv_std = nullptr;  // [c]
  float* sum_dz = nullptr;         // [c] S1
  float* sum_dz_xhat = nullptr;    // [c] S2
  /// Gated sources only: [n][c], sum over pixels of du*a, overwritten. dz then receives
  /// da = du*gate, the gradient of a *without* act'(z), and not the sums over the batch, which
  /// need what comes back through the gate as well (spread.h), but, where `slope_sums` is given
  /// (mean then is, too), those of each image.
  float* dgate = nullptr;
  /// [2][n][c]: sums over pixels of da*act'(z) and of da*act'(z)*(y - mean), overwritten.
  float* slope_sums = nullptr;
  /// Ungated sources only, and dz is overwritten then. Kernels that cannot take it refuse it.
  Addend addend = {};
};

/// The part of a gradient that its reader left to the convolution: what lies in Incoming::dz is the
/// gradient da of an activated value, perhaps of a sum that it was a term of, and
///
///   dz = (weight*da + spread[n,c]) * act'(scale[c]*y + shift[c])
///
/// so that neither a sum nor a mean over the image writes a gradient that only repeats another one.
struct Deferred {
  float weight = 1;
  const float* spread = nullptr;  // [n][c]; null: 0
  const float* scale = nullptr;   // [c]; null: nothing is deferred, and nothing else here is read
  const float* shift = nullptr;
  Act act = Act::none;
};

/// Gradient that reaches a raw output: dy = ca*dz + cb*y + cc, or dz itself where ca is null.
struct Incoming {
  Tensor dz;  // data null, shape given: 0, where `deferred` has a spread
  /// Raw output; unused where ca is null. Data null where ca is not: the output was not stored
  /// (pointwise_backward alone takes that, and makes what it needs of y from its source).
  Tensor y;
  const float* ca = nullptr;
  const float* cb = nullptr;
  const float* cc = nullptr;
  Deferred deferred = {};
};

/// A pointwise convolution without bias whose output is never stored: who reads it makes it again
/// from x, which has few channels, in a tile.   y[r,e] = sum_i w[e,i] * u[r,i]
struct Expansion {
  Source x;  // ungated
  Filter w;  // data null: there is no expansion
};

/// Per-channel mean and biased variance over n*h*w of a raw output, from (mean, M2) pairs of tiles
/// merged in tile order. Null: not wanted.
struct Moments {
  float* mean = nullptr;
  float* variance = nullptr;
};

}  // namespace tunas::kernels
