// source.h in double, what a reader leaves: the gradient of a source, with what another reader left
// to it.
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

}  // namespace tunas::testing
