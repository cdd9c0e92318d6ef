// Central differences: (f(x + h*e_i) - f(x - h*e_i)) / 2h against a gradient, in double.
#pragma once

#include <functional>

#include "tests/support/compare.h"

namespace tunas::test {

/// Fails, naming `name`, unless `gradient` is that of `f` at `x` to 1e-6. `x` must keep clear of
/// corners by more than the step of 1e-5.
void expect_gradient(const char* name, const std::function<double(const Values&)>& f,
                     const Values& x, const Values& gradient);

/// sum_i a[i]*b[i]: makes one number of an output, with b its gradient.
double dot(const Values& a, const Values& b);

}  // namespace tunas::test
