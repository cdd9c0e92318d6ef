// source.h in double: what a reader sees of a source, what comes back, what a norm makes of it.
#pragma once

#include <algorithm>
#include <memory>

#include "tests/cuda/device.h"

namespace tunas::testing {

inline double act(Act kind, double z) {
  const double hard = std::clamp(z / 6 + 0.5, 0.0, 1.0);
  switch (kind) {
    case Act::none:
      return z;
    case Act::relu:
      return std::max(z, 0.0);
    case Act::relu6:
      return std::clamp(z, 0.0, 6.0);
    case Act::hard_swish:
      return z * hard;
    case Act::sigmoid:
      return 1 / (1 + std::exp(-z));
    case Act::hard_sigmoid:
      return hard;
  }
  return 0;
}

inline double slope(Act kind, double z) {
  const double inside = std::abs(z) < 3 ? 1 : 0;
  const double s = 1 / (1 + std::exp(-z));
  switch (kind) {
    case Act::none:
      return 1;
    case Act::relu:
      return z > 0 ? 1 : 0;
    case Act::relu6:
      return z > 0 && z < 6 ? 1 : 0;
    case Act::hard_swish:
      return std::clamp(z / 6 + 0.5, 0.0, 1.0) + inside * z / 6;
    case Act::sigmoid:
      return s * (1 - s);
    case Act::hard_sigmoid:
      return inside / 6;
  }
  return 0;
}

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
  double a(std::size_t i) const { return act(kind, z(i)); }
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

/// Where another reader left a gradient to add: nowhere, in memory of its own, or where dz goes.
enum class Addend { none, elsewhere, in_place };

/// Storage for a SourceGrad and the check of everything it should hold.
struct GradField {
  static constexpr float kAddendWeight = 0.5f;
  const SourceField& x;
  Field dz, mean, inv_std, s1, s2, dgate;
  Values before;  // of dz, where it accumulates
  Write how;
  Addend left;
  Field addend;

  explicit GradField(const SourceField& source, unsigned seed, Write write = Write::overwrite,
                     Addend what = Addend::none)
      : x(source),
        dz(source.y.type(), source.y.tensor().n, source.y.tensor().h, source.y.tensor().w,
           source.y.tensor().c),
        mean(Field::channels(source.y.tensor().c, seed)),
        inv_std(Field::channels(source.y.tensor().c, seed + 1, 0.5, 2)),
        s1(DType::f32, 1, 1, 1, source.y.tensor().c),
        s2(DType::f32, 1, 1, 1, source.y.tensor().c),
        dgate(DType::f32, source.y.tensor().n, 1, 1, source.y.tensor().c),
        how(write),
        left(what),
        addend(Field::random(source.y.type(), source.y.tensor().n, source.y.tensor().h,
                             source.y.tensor().w, source.y.tensor().c, seed + 5)) {
    if (left == Addend::in_place) {
      dz.values = addend.values;
      dz.upload();
    }
    if (how == Write::overwrite) return;
    dz = Field::random(source.y.type(), source.y.tensor().n, source.y.tensor().h,
                       source.y.tensor().w, source.y.tensor().c, seed + 2);
    before = dz.values;
    s1 = Field::channels(source.y.tensor().c, seed + 3);
    s2 = Field::channels(source.y.tensor().c, seed + 4);
  }

  kernels::SourceGrad args() const {
    kernels::SourceGrad g{dz.tensor(), how, mean.f32(), inv_std.f32(), s1.f32(), s2.f32()};
    if (x.gated) g.dgate = dgate.f32();
    if (left == Addend::none) return g;
    g.addend = {left == Addend::in_place ? dz.tensor() : addend.tensor(), kAddendWeight};
    return g;
  }

  /// `da`: the gradient of the activated value, from which the sums alone were made.
  void check_sums(const Values& da, double most) const {
    const std::size_t c = static_cast<std::size_t>(x.y.tensor().c);
    Values want_s1(c), want_s2(c);
    if (how == Write::accumulate) {
      want_s1 = s1.values;
      want_s2 = s2.values;
    }
    for (std::size_t i = 0; i < da.size(); ++i) {
      const double d = da[i] * slope(x.kind, x.z(i));
      want_s1[i % c] += d;
      want_s2[i % c] += d * (x.y.values[i] - mean.values[i % c]) * inv_std.values[i % c];
    }
    expect_near(s1, want_s1, most, "sum dz");
    expect_near(s2, want_s2, most, "sum dz*xhat");
  }

  /// `du`: the gradient of what the reader saw.
  void check(Values du, double most) const {
    for (std::size_t i = 0; left != Addend::none && i < du.size(); ++i) {
      du[i] += kAddendWeight * addend.values[i];
    }
    if (left == Addend::elsewhere) {
      EXPECT_EQ(addend.download(), addend.values) << "others read it, too";
    }
    Values want_dz(du.size()), want_gate(dgate.tensor().size());
    for (std::size_t i = 0; i < du.size(); ++i) {
      const double gate = x.gated ? x.gate.values[x.gate_index(i)] : 1;
      const double d = x.gated ? du[i] * gate : du[i] * slope(x.kind, x.z(i));
      want_dz[i] = d + (before.empty() ? 0 : before[i]);
      want_gate[x.gate_index(i)] += du[i] * x.a(i);
    }
    expect_near(dz, want_dz, most, "dz");
    if (x.gated) {
      expect_near(dgate, want_gate, most, "dgate");
    } else {
      check_sums(du, most);
    }
  }
};

/// What an incoming gradient leaves to its convolution, and what of that it has.
struct Left {
  bool deferred = false;
  Act act = Act::none;
  float weight = 1;
  bool spread = true, da = true;
};

/// An incoming gradient: dz and y of the output with the three coefficients; da and the rest of
/// what it is made of where it is deferred.
struct IncomingField {
  Field dz, y, ca, cb, cc;
  bool normalised;
  Left left;
  Field scale, shift, spread;

  IncomingField(DType type, int n, int h, int w, int c, unsigned seed, bool norm = true,
                const Left& what = {})
      : dz(Field::random(type, n, h, w, c, seed)),
        y(Field::random(type, n, h, w, c, seed + 1)),
        ca(Field::channels(c, seed + 2, 0.5, 2)),
        cb(Field::channels(c, seed + 3, -0.3, 0.3)),
        cc(Field::channels(c, seed + 4, -0.3, 0.3)),
        normalised(norm),
        left(what),
        scale(Field::channels(c, seed + 5, 0.5, 6)),
        shift(Field::channels(c, seed + 6, -1, 2)),
        spread(Field::random(DType::f32, n, 1, 1, c, seed + 7)) {}

  kernels::Incoming args() const {
    kernels::Incoming a{dz.tensor(), {}, nullptr, nullptr, nullptr};
    if (normalised) a = {dz.tensor(), y.tensor(), ca.f32(), cb.f32(), cc.f32()};
    if (!left.deferred) return a;
    a.y = y.tensor();
    if (!left.da) a.dz.data = nullptr;
    a.deferred = {left.weight, left.spread ? spread.f32() : nullptr, scale.f32(), shift.f32(),
                  left.act};
    return a;
  }
  Values dy() const {
    Values d = dz.values;
    const std::size_t c = static_cast<std::size_t>(dz.tensor().c);
    const std::size_t image = d.size() / dz.tensor().n;
    for (std::size_t i = 0; left.deferred && i < d.size(); ++i) {
      d[i] = left.weight * (left.da ? d[i] : 0) +
             (left.spread ? spread.values[i / image * c + i % c] : 0);
      d[i] *= slope(left.act, scale.values[i % c] * y.values[i] + shift.values[i % c]);
    }
    for (std::size_t i = 0; normalised && i < d.size(); ++i) {
      d[i] = ca.values[i % c] * d[i] + cb.values[i % c] * y.values[i] + cc.values[i % c];
    }
    return d;
  }
};

/// Mean and biased variance per channel.
inline void check_moments(const Values& y, int c, const Field& mean, const Field& variance,
                          double most) {
  Values m(c), v(c);
  const double rows = static_cast<double>(y.size()) / c;
  for (std::size_t i = 0; i < y.size(); ++i) m[i % c] += y[i] / rows;
  for (std::size_t i = 0; i < y.size(); ++i)
    v[i % c] += (y[i] - m[i % c]) * (y[i] - m[i % c]) / rows;
  expect_near(mean, m, most, "mean");
  expect_near(variance, v, most, "variance");
}

}  // namespace tunas::testing
