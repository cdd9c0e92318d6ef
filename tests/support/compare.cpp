#include "tests/support/compare.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tunas::test {
namespace {

std::string worst_element(const Values& got, const Values& want) {
  std::size_t worst = 0;
  double largest = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(got[i] - want[i]);
    if (std::isnan(difference)) {
      worst = i;
      break;
    }
    if (difference > largest) {
      largest = difference;
      worst = i;
    }
  }
  if (got.empty()) return "both are empty";
  return "worst at element " + std::to_string(worst) + " of " + std::to_string(got.size()) +
         ": got " + std::to_string(got[worst]) + ", want " + std::to_string(want[worst]);
}

template <class Same>
void expect_all(const Results& got, const Results& want, const Same& same) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t t = 0; t < got.size(); ++t) {
    ASSERT_EQ(got[t].name, want[t].name);
    ASSERT_EQ(got[t].values.size(), want[t].values.size()) << got[t].name;
    std::size_t different = 0;
    for (std::size_t i = 0; i < got[t].values.size(); ++i) {
      different += !same(got[t].values[i], want[t].values[i]);
    }
    EXPECT_EQ(different, 0u) << got[t].name << ": elements differ; "
                             << worst_element(got[t].values, want[t].values);
  }
}

}  // namespace

double relative_error(const Values& got, const Values& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  if (difference == 0 && std::isfinite(norm)) return 0;
  const double error = std::sqrt(difference / norm);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

void expect_close(const char* name, const Values& got, const Values& want, double limit) {
  ASSERT_EQ(got.size(), want.size()) << name;
  const double error = relative_error(got, want);
  EXPECT_LE(error, limit) << name << ": " << worst_element(got, want);
}

void expect_close(const Results& got, const Results& want, double limit) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t t = 0; t < got.size(); ++t) {
    ASSERT_EQ(got[t].name, want[t].name);
    expect_close(got[t].name.c_str(), got[t].values, want[t].values, limit);
  }
}

void expect_equal(const Results& got, const Results& want) {
  expect_all(got, want, [](double a, double b) { return a == b; });
}

void expect_same_bits(const Results& got, const Results& want) {
  expect_all(got, want, [](double a, double b) {
    return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
  });
}

}  // namespace tunas::test
