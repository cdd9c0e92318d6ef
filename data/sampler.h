// The order of samples: pure functions of (seed, epoch), without memory.
//
// Permutation of 0..n-1: an alternating Feistel network on pairs (a, b) with a < A, b < B, A*B >=
// n:
//   x = a*B + b;   rounds: a += F(b) mod A, then b += F(a) mod B, ...   F = philox(key, round)
// and walked again while the result is n or more (A*B exceeds n by less than 2*sqrt(n) + 1).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/philox.h"

namespace tunas::data {

class Permutation {
 public:
  /// `key.shard` is taken by the round. Throws Error(usage) unless 0 < n < 2^62.
  Permutation(std::int64_t n, const PhiloxKey& key);

  /// Where position i, 0 <= i < n, leads.
  std::int64_t operator()(std::int64_t i) const;

 private:
  std::uint64_t step(std::uint64_t x) const;

  std::uint64_t n_, a_, b_;
  PhiloxKey key_;
};

/// The batches of one of several readers of the same order: of every `of` batches `count`, from
/// number `first` on. A rank reads those of its shards of each step.
struct Slice {
  int first = 0, count = 1, of = 1;

  /// Number, in the whole order, of this reader's batch b.
  std::int64_t batch(std::int64_t b) const { return b / count * of + first + b % count; }
  /// How many of the order's first `batches` are this reader's.
  std::int64_t share(std::int64_t batches) const;
};

/// Sample indices, ascending.
using Subset = std::vector<std::int64_t>;

/// 0..size-1
Subset everything(std::int64_t size);

struct Holdout {
  Subset train, held_out;
};

/// Holds out `count` of `size` samples, chosen by seed alone. Throws Error(usage) unless something
/// is left on either side.
Holdout hold_out(std::int64_t size, std::int64_t count, std::uint64_t seed);

/// Holds out the first `count` of `size` samples. Throws as hold_out does.
Holdout hold_out_first(std::int64_t size, std::int64_t count);

/// What is held out unless the user says otherwise: a tenth, at least one.
constexpr std::int64_t default_holdout(std::int64_t size) { return size < 20 ? 1 : size / 10; }

}  // namespace tunas::data
