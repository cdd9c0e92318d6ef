// source.h in double, what comes back: an incoming gradient; and the moments that a normalisation
// has of an output.
#pragma once

#include "tests/cuda/grad_field.h"

namespace tunas::testing {

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
