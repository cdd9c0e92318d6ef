#include "tests/support/gradcheck.h"

#include <gtest/gtest.h>

#include <numeric>

namespace tunas::test {

void expect_gradient(const char* name, const std::function<double(const Values&)>& f,
                     const Values& x, const Values& gradient) {
  constexpr double kStep = 1e-5, kLimit = 1e-6;
  ASSERT_EQ(gradient.size(), x.size()) << name;
  ASSERT_GT(dot(gradient, gradient), 0) << name << ": a gradient of zero proves nothing";
  Values differences;
  Values moved = x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    moved[i] = x[i] + kStep;
    const double above = f(moved);
    moved[i] = x[i] - kStep;
    const double below = f(moved);
    moved[i] = x[i];
    differences.push_back((above - below) / (2 * kStep));
  }
  expect_close(name, gradient, differences, kLimit);
}

double dot(const Values& a, const Values& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace tunas::test
