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

/// The pointwise convolution whose output a Raw is, where it need not be stored.
struct Expanded {
  Var y, norm;  // of the Raw that it reads, which has no gate
  Act act = Act::none;
  Weight w;  // none: the Raw is stored

  explicit operator bool() const { return static_cast<bool>(w); }
};

struct Raw {
  Var y;
  Act act = Act::none;
  Var norm;    // float rows, see norm.cpp; none: z = y
  Var gate;    // [n][1][1][c]; none: not gated
  Var slopes;  // slope sums of kernels/pool.h; their gradient are those of the gated reader
  Expanded expanded;
  bool takes_deferred = false;  // its convolution's backward reads a deferred gradient

  Raw() = default;
  Raw(Var value) : y(value) {}  // NOLINT: a Var is a Raw
};

/// What a kernel needs to read `x`, which is written out if it was not stored.
kernels::Source source(Tape& tape, const Raw& x);
/// The same for a kernel that makes an expansion itself: then y has no data, and `expansion` says
/// of what it is made.
kernels::Source source(Tape& tape, const Raw& x, kernels::Expansion& expansion);
/// Whether a kernel takes what a sum left to the next reader of a Raw (kernels::Addend). For one
/// that does not it is written out before.
enum class TakesAddend : unsigned char { no, yes };
/// Where a kernel leaves the gradient of `x`; claims the slot of x.y.
kernels::SourceGrad source_grad(Tape& tape, const Raw& x, TakesAddend takes = TakesAddend::no);
/// Of it only the sums that the normalisation of x needs, and what they are taken with.
kernels::SourceGrad norm_sums(const Tape& tape, const Raw& x);

/// Batch normalisation of a convolution's output `y` of `c` channels: makes the rows, says where
/// the convolution leaves its moments (nowhere when running averages are used) ...
Var norm_rows(Tape& tape, int c);
kernels::Moments moments(const Tape& tape, Var rows, const NormWeight& norm);
/// ... and, once it has run, computes what readers apply.
void finish_norm(Tape& tape, const Raw& y, const NormWeight& norm);
/// In the convolution's closure: the gradient of its raw output, and those of scale and shift.
/// Without a norm it is the gradient its readers left, or left to be made (Tape::defer).
kernels::Incoming incoming(Tape& tape, const Raw& y, const NormWeight& norm);

}  // namespace tunas::engine
