#include "data/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"

namespace tunas::data {
namespace {

// With few rounds small sets see only some of their permutations; these suffice for the tests.
constexpr std::uint32_t kRounds = 12;

}  // namespace

Permutation::Permutation(std::int64_t n, const PhiloxKey& key) : key_(key) {
  require(n > 0 && n < (std::int64_t{1} << 62), "a permutation of ", n, " samples");
  n_ = static_cast<std::uint64_t>(n);
  b_ = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(n)));
  b_ = std::max<std::uint64_t>(b_, 2);  // with 1, three samples could only be rotated
  a_ = (n_ + b_ - 1) / b_;
}

std::uint64_t Permutation::step(std::uint64_t x) const {
  std::uint64_t a = x / b_, b = x % b_;
  PhiloxKey key = key_;
  const auto draw = [&](std::uint32_t round, std::uint64_t half) {
    key.shard = round;
    const Random4 random = philox(key, half);
    return std::uint64_t{random.v[0]} << 32 | random.v[1];
  };
  for (std::uint32_t round = 0; round < kRounds; round += 2) {
    a = (a + draw(round, b) % a_) % a_;
    b = (b + draw(round + 1, a) % b_) % b_;
  }
  return a * b_ + b;
}

std::int64_t Permutation::operator()(std::int64_t i) const {
  std::uint64_t x = static_cast<std::uint64_t>(i);
  do {
    x = step(x);
  } while (x >= n_);
  return static_cast<std::int64_t>(x);
}

std::int64_t Slice::share(std::int64_t batches) const {
  return batches / of * count + std::clamp<std::int64_t>(batches % of - first, 0, count);
}

Subset everything(std::int64_t size) {
  Subset all(static_cast<std::size_t>(std::max<std::int64_t>(size, 0)));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  return all;
}

namespace {

void check_count(std::int64_t size, std::int64_t count) {
  require(count > 0 && count < size, "cannot hold out ", count, " of ", size,
          " samples; give a number from 1 to ", size - 1);
}

}  // namespace

Holdout hold_out(std::int64_t size, std::int64_t count, std::uint64_t seed) {
  check_count(size, count);
  const Permutation permutation(size, {seed, Purpose::holdout, 0, 0});
  std::vector<bool> held(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < count; ++i) held[static_cast<std::size_t>(permutation(i))] = true;
  Holdout split;
  for (std::int64_t i = 0; i < size; ++i) {
    (held[static_cast<std::size_t>(i)] ? split.held_out : split.train).push_back(i);
  }
  return split;
}

Holdout hold_out_first(std::int64_t size, std::int64_t count) {
  check_count(size, count);
  Subset train = everything(size);
  Subset held_out(train.begin(), train.begin() + count);
  train.erase(train.begin(), train.begin() + count);
  return {std::move(train), std::move(held_out)};
}

}  // namespace tunas::data
