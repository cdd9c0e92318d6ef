// The median of some measurements: of an even number of them the upper of the two in the middle.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tunas::engine {

/// `values` must not be empty.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace tunas::engine
