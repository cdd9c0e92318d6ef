// Orders are permutations, pure, different from epoch to epoch and without pattern; held-out
// samples are disjoint from the rest.
#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/error.h"

namespace tunas::data {
namespace {

Subset order(std::int64_t n, std::uint64_t seed, std::uint32_t epoch) {
  const Permutation permutation(n, {seed, Purpose::order, epoch, 0});
  Subset all;
  for (std::int64_t i = 0; i < n; ++i) all.push_back(permutation(i));
  return all;
}

TEST(Permutation, IsOne) {
  for (std::int64_t n = 1; n < 400; ++n) {
    Subset all = order(n, 3, 5);
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all, everything(n)) << n;
  }
  Subset all = order(60000, 3, 5);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, everything(60000));
}

TEST(Permutation, IsAFunctionOfItsKey) {
  EXPECT_EQ(order(1000, 1, 0), order(1000, 1, 0));
  EXPECT_NE(order(1000, 1, 0), order(1000, 2, 0));
  EXPECT_NE(order(1000, 1, 0), order(1000, 1, 1));
  const std::int64_t huge = 3'000'000'000'000;
  const Permutation permutation(huge, {1, Purpose::order, 0, 0});
  EXPECT_EQ(permutation(7), Permutation(huge, {1, Purpose::order, 0, 0})(7));
  EXPECT_LT(permutation(huge - 1), huge);
}

/// Chi-square per degree of freedom of counts that should all be `expected`.
template <class Counts>
double chi_square(const Counts& counts, double expected) {
  double sum = 0;
  for (const auto& [key, count] : counts) sum += (count - expected) * (count - expected) / expected;
  return sum / static_cast<double>(counts.size() - 1);
}

TEST(Permutation, AllOrdersOfFewSamplesAreEquallyLikely) {
  for (const int n : {2, 3, 4, 5}) {
    std::map<Subset, double> counts;
    int orders = 1;
    for (int i = 2; i <= n; ++i) orders *= i;
    for (std::uint32_t epoch = 0; epoch < 200u * orders; ++epoch) ++counts[order(n, 9, epoch)];
    ASSERT_EQ(counts.size(), static_cast<std::size_t>(orders)) << n;
    // Mean 1, deviation sqrt(2/(orders - 1)); 5 of them is never.
    EXPECT_LT(chi_square(counts, 200), 1 + 5 * std::sqrt(2.0 / (orders - 1))) << n;
  }
}

TEST(Permutation, PlacesAndNeighboursHaveNoPattern) {
  constexpr int kSize = 23, kEpochs = 23 * 400;
  std::map<std::pair<std::int64_t, std::int64_t>, double> places, steps;
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    const Subset all = order(kSize, 4, epoch);
    for (std::int64_t i = 0; i < kSize; ++i) {
      const auto at = static_cast<std::size_t>(i);
      ++places[{i, all[at]}];
      if (i > 0) ++steps[{i, (all[at] - all[at - 1] + kSize) % kSize}];
    }
  }
  const double limit = 1 + 5 * std::sqrt(2.0 / (kSize * kSize));
  EXPECT_LT(chi_square(places, kEpochs / kSize), limit);
  ASSERT_EQ(steps.size(), (kSize - 1.0) * (kSize - 1));  // a step of 0 never comes
  EXPECT_LT(chi_square(steps, static_cast<double>(kEpochs) / (kSize - 1)), limit);
}

TEST(Holdout, IsDisjointCompleteAndSeeded) {
  for (const std::int64_t size : {2, 17, 1000}) {
    for (const std::int64_t count : {std::int64_t{1}, size / 2, size - 1}) {
      const Holdout split = hold_out(size, count, 11);
      EXPECT_EQ(split.held_out.size(), static_cast<std::size_t>(count));
      EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
      Subset all = split.train;
      all.insert(all.end(), split.held_out.begin(), split.held_out.end());
      std::sort(all.begin(), all.end());
      EXPECT_EQ(all, everything(size));
    }
  }
  EXPECT_EQ(hold_out(1000, 100, 1).held_out, hold_out(1000, 100, 1).held_out);
  EXPECT_NE(hold_out(1000, 100, 1).held_out, hold_out(1000, 100, 2).held_out);
  // Spread over the whole range: in class folders a tail would be the last classes.
  const Subset held = hold_out(1000, 100, 1).held_out;
  EXPECT_NEAR(std::count_if(held.begin(), held.end(), [](auto i) { return i < 500; }), 50, 20);
}

TEST(Holdout, LeavesSomethingOnBothSides) {
  EXPECT_THROW(hold_out(10, 0, 1), Error);
  EXPECT_THROW(hold_out(10, 10, 1), Error);
  EXPECT_EQ(default_holdout(60000), 6000);
  EXPECT_EQ(default_holdout(2), 1);
}

TEST(Holdout, TheFirstInStoredOrder) {
  const Holdout split = hold_out_first(7, 3);
  EXPECT_EQ(split.held_out, (Subset{0, 1, 2}));
  EXPECT_EQ(split.train, (Subset{3, 4, 5, 6}));
  EXPECT_THROW(hold_out_first(7, 7), Error);
}

TEST(Permutation, NeedsSamples) { EXPECT_THROW(Permutation(0, {}), Error); }

}  // namespace
}  // namespace tunas::data
