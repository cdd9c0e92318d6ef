#include "engine/sums.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

/// Of `range`, which peers at distance d share, the half that this rank keeps, and the other.
struct Halves {
  std::span<float> keep, give;
};

Halves halves(std::span<float> range, bool upper) {
  const std::size_t middle = range.size() / 2 / kSumAlign * kSumAlign;
  const std::span<float> low = range.first(middle), high = range.subspan(middle);
  return upper ? Halves{high, low} : Halves{low, high};
}

void fixed_sum(Link& link, std::span<float> data, float* scratch) {
  std::vector<Halves> path;
  std::span<float> range = data;
  // Distance 1 first: a peer then adds what ranks next to each other have added before.
  for (int distance = 1; distance < link.size(); distance *= 2) {
    const int peer = link.rank() ^ distance;
    path.push_back(halves(range, (link.rank() & distance) != 0));
    range = path.back().keep;
    const std::span<float> received(scratch, range.size());
    link.exchange({peer, path.back().give, peer, received});
    link.add(range.data(), received);
  }
  for (int distance = link.size() / 2; distance > 0; distance /= 2) {
    const int peer = link.rank() ^ distance;
    link.exchange({peer, path.back().keep, peer, path.back().give});
    path.pop_back();
  }
}

void ring_sum(Link& link, std::span<float> data, float* scratch) {
  const int ranks = link.size(), rank = link.rank();
  const int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  const auto part = [&](int index) {
    const auto p = static_cast<std::size_t>((index % ranks + ranks) % ranks);
    const auto parts = static_cast<std::size_t>(ranks);
    const std::size_t begin = data.size() / parts * p + std::min(p, data.size() % parts);
    return data.subspan(begin, data.size() / parts + (p < data.size() % parts ? 1 : 0));
  };
  for (int step = 0; step < ranks - 1; ++step) {
    const std::span<float> mine = part(rank - step - 1), received(scratch, mine.size());
    link.exchange({next, part(rank - step), previous, received});
    link.add(mine.data(), received);
  }
  for (int step = 0; step < ranks - 1; ++step) {
    link.exchange({next, part(rank + 1 - step), previous, part(rank - step)});
  }
}

}  // namespace

void check_ranks(Sums sums, int ranks) {
  require(sums == Sums::fast || std::has_single_bit(static_cast<unsigned>(ranks)), ranks,
          " ranks cannot add in one binary tree; use a power of two, or --deterministic off");
}

namespace {

bool can_share(Sums sums, int ranks, int shards) {
  const auto power = [](int n) { return std::has_single_bit(static_cast<unsigned>(n)); };
  return ranks == 1 ||
         (shards % ranks == 0 && (sums == Sums::fast || (power(ranks) && power(shards / ranks))));
}

/// "4 or 8": the nearest numbers around `value` up to `most` for which `valid` holds.
template <class Valid>
std::string nearest(int value, int most, const Valid& valid) {
  std::string text;
  int below = value - 1, above = value + 1;
  while (below > 0 && !valid(below)) --below;
  while (above <= most && !valid(above)) ++above;
  if (below > 0) text = std::to_string(below);
  if (above <= most) text += (text.empty() ? "" : " or ") + std::to_string(above);
  return text;
}

}  // namespace

void check_shards(Sums sums, int ranks, int shards) {
  if (can_share(sums, ranks, shards)) return;
  const bool uneven = shards % ranks != 0;
  const std::string other_shards =
      nearest(shards, 2 * shards + ranks, [&](int s) { return can_share(sums, ranks, s); });
  const std::string other_ranks =
      nearest(ranks, shards, [&](int r) { return can_share(sums, r, shards); });
  fail(Exit::usage, shards, " shards a step cannot be shared by ", ranks, " ranks ",
       uneven ? "evenly" : "as parts of one binary tree", "; use ",
       other_shards.empty() ? "" : "--shards " + other_shards + ", ", other_ranks,
       other_ranks == "1" ? " rank" : " ranks", uneven ? "" : ", or --deterministic off");
}

void sum(Sums sums, Link& link, std::span<float> data, float* scratch) {
  check_ranks(sums, link.size());
  sums == Sums::fixed ? fixed_sum(link, data, scratch) : ring_sum(link, data, scratch);
}

}  // namespace tunas::engine
