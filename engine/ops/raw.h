// Raw: a convolution's raw output with the normalisation and activation that its reader applies
// while loading (kernels/source.h). A plain Var is a Raw without either, so every op takes a Raw.
#pragma once

#include "engine/tape.h"

namespace tunas::engine {

/// Scale and shift of one batch normalisation; running averages only in networks trained alone.
struct NormWeight {
  Weight gamma, beta;
  Weight mean, variance;
  float epsilon = 1e-3f;
  float momentum = 0.99f;

  explicit operator bool() const { return static_cast<bool>(gamma); }
  bool keeps_running() const { return static_cast<bool>(mean); }
};

struct Raw {
  Var y;
  Act act = Act::none;
  Var norm;  // float rows, see norm.cpp; none: z = y
  Var gate;  // [n][1][1][c]; none: not gated

  Raw() = default;
  Raw(Var value) : y(value) {}  // NOLINT: a Var is a Raw
};

/// What a kernel needs to read `x`.
kernels::Source source(const Tape& tape, const Raw& x);
/// Where a kernel leaves the gradient of `x`; claims the slot of x.y.
kernels::SourceGrad source_grad(Tape& tape, const Raw& x);

/// Batch normalisation of a convolution's output `y` of `c` channels: makes the rows, says where
/// the convolution leaves its moments (nowhere when running averages are used) ...
Var norm_rows(Tape& tape, int c);
kernels::Moments moments(const Tape& tape, Var rows, const NormWeight& norm);
/// ... and, once it has run, computes what readers apply.
void finish_norm(Tape& tape, const Raw& y, const NormWeight& norm);
/// In the convolution's closure: the gradient of its raw output, and those of scale and shift.
/// Without a norm it is the gradient its readers left.
kernels::Incoming incoming(Tape& tape, const Raw& y, const NormWeight& norm);

}  // namespace tunas::engine
