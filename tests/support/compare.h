// Comparison of tensors: error is one number, ||got - want|| / ||want|| over the tensor, with one
// limit per type. A NaN on either side never passes.
#pragma once

#include <string>
#include <vector>

#include "kernels/types.h"

namespace tunas::test {

using Values = std::vector<double>;

/// What a kernel or its reference left, tensor by tensor, in the same order.
struct Named {
  std::string name;
  Values values;
};
using Results = std::vector<Named>;

/// The one table of limits.
constexpr double limit(DType type) { return type == DType::f32 ? 4e-6 : 1e-2; }

/// ||got - want|| / ||want||; infinite for a NaN or different sizes; 0 for two zero tensors.
double relative_error(const Values& got, const Values& want);

/// Fails, naming the tensor, the error and the worst element.
void expect_close(const Results& got, const Results& want, double limit = limit(DType::f32));
void expect_close(const char* name, const Values& got, const Values& want,
                  double limit = limit(DType::f32));
/// Every number equal (0 equals -0).
void expect_equal(const Results& got, const Results& want);
/// The same bits, for results that must not depend on the number of threads.
void expect_same_bits(const Results& got, const Results& want);

}  // namespace tunas::test
