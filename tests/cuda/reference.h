// source.h in double, what comes back: the gradient of a source, an incoming gradient; and the
// moments that a normalisation has of an output.
#pragma once

#include "tests/cuda/source_field.h"

namespace tunas::testing {

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
      const double d = da[i] * activate_grad(x.kind, x.z(i));
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
      const double d = x.gated ? du[i] * gate : du[i] * activate_grad(x.kind, x.z(i));
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
      d[i] *= activate_grad(left.act, scale.values[i % c] * y.values[i] + shift.values[i % c]);
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
