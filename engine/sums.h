// Sums over ranks, written once over two primitives: an exchange with peers and an addition.
//
//   fixed  recursive halving at distances 1, 2, 4, ..., then doubling back: at distance d a rank
//          gives its peer rank^d one half of the range it is responsible for, and adds what it gets
//          for the other half. Each element is added in the tree ((r0+r1)+(r2+r3))+..., whatever
//          the count. Ranks: a power of two.
//   fast   a ring: each rank adds to one part after the other while they go round, then the sums go
//          round. Any number of ranks; the order of additions depends on the element.
//
// Either sends and receives 2*(R-1)/R*count floats a rank.
#pragma once

#include <cstddef>
#include <span>

namespace tunas::engine {

enum class Sums : unsigned char { fixed, fast };

/// What a transport must do for a sum.
class Link {
 public:
  struct Exchange {
    int to = 0;
    std::span<const float> send;
    int from = 0;
    std::span<float> receive;
  };

  virtual ~Link() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Both at once; either may be empty, and is at its peer too.
  virtual void exchange(const Exchange& exchange) = 0;
  /// a[i] += b[i], for all of `b`.
  virtual void add(float* a, std::span<const float> b) = 0;
};

/// Floats: what a fixed sum adds begins at multiples of it where `data` does, as a GPU needs to
/// read four at once.
inline constexpr std::size_t kSumAlign = 4;
/// Floats of scratch memory that a sum of `count` floats needs.
inline std::size_t sum_scratch(std::size_t count) { return count / 2 + kSumAlign; }

/// Error(Exit::usage) where `ranks` cannot add in this way.
void check_ranks(Sums sums, int ranks);
/// Error(Exit::usage) where they cannot share `shards` a step so, naming the nearest numbers that
/// can: evenly, and for fixed sums as subtrees of one tree, by powers of two.
void check_shards(Sums sums, int ranks, int shards);

/// data[i] <- sum over ranks of data[i]. `scratch` lies where `data` lies.
void sum(Sums sums, Link& link, std::span<float> data, float* scratch);

}  // namespace tunas::engine
