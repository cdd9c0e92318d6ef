// source.h in double, what a reader sees: a source, stored or made by an expansion.
#pragma once

#include "kernels/source.h"
#include "tests/cuda/field.h"
#include "tests/support/reference.h"

namespace tunas::testing {

using test::reference::activate;
using test::reference::activate_grad;

/// A random source with its normalisation, optionally gated, and the arguments that name it.
struct SourceField {
  Field y, scale, shift, gate;
  Act kind;
  bool normalised, gated;

  SourceField(DType type, int n, int h, int w, int c, unsigned seed, Act a, bool norm = true,
              bool with_gate = false)
      : y(Field::random(type, n, h, w, c, seed)),
        scale(Field::channels(c, seed + 1, 0.5, 6)),
        shift(Field::channels(c, seed + 2, -1, 2)),
        gate(Field::random(DType::f32, n, 1, 1, c, seed + 3, 0.1, 1)),
        kind(a),
        normalised(norm),
        gated(with_gate) {}

  kernels::Source args() const {
    return {y.tensor(), normalised ? scale.f32() : nullptr, normalised ? shift.f32() : nullptr,
            kind, gated ? gate.f32() : nullptr};
  }
  std::size_t size() const { return y.values.size(); }
  int channel(std::size_t i) const { return static_cast<int>(i % y.tensor().c); }
  std::size_t gate_index(std::size_t i) const {
    const Tensor& t = y.tensor();
    return i / (static_cast<std::size_t>(t.h) * t.w * t.c) * t.c + i % t.c;
  }
  double z(std::size_t i) const {
    if (!normalised) return y.values[i];
    return scale.values[channel(i)] * y.values[i] + shift.values[channel(i)];
  }
  double a(std::size_t i) const { return activate(kind, z(i)); }
  double u(std::size_t i) const { return gated ? a(i) * gate.values[gate_index(i)] : a(i); }
};

/// A random expansion of few channels, rounded as operands, to those of a source, which then holds
/// what is made: not rounded, as forward sees it.
struct ExpansionField {
  SourceField from;
  Field w;
  Width out, in;

  ExpansionField(SourceField& made, int channels, unsigned seed, Act kind)
      : from(made.y.type(), made.y.tensor().n, made.y.tensor().h, made.y.tensor().w, channels, seed,
             kind),
        w(Field::random(made.y.type(), made.y.tensor().c + 16, 1, 1, channels + 8, seed + 4)),
        out{made.y.tensor().c + 16, made.y.tensor().c},
        in{channels + 8, channels} {
    Field u(from.y.type(), 1, 1, 1, static_cast<int>(from.size()));
    for (std::size_t i = 0; i < from.size(); ++i) u.values.push_back(from.u(i));
    u.upload();
    for (std::size_t i = 0; i < made.size(); ++i) {
      const std::size_t row = i / out.now * in.now, line = i % out.now * in.max;
      made.y.values[i] = 0;
      for (int k = 0; k < in.now; ++k) made.y.values[i] += u.values[row + k] * w.values[line + k];
    }
  }
  kernels::Expansion args() const {
    return {from.args(), {w.tensor().data, from.y.type(), out, in, 1}};
  }
};

}  // namespace tunas::testing
