// The random baseline (specification, section 15): every decision uniform, kept if its cost lies
// between two bounds, until enough are found.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "search/cost_model.h"

namespace tunas::search {

/// Draw number `draw` of a seed: uniform in every decision, the same on any machine.
Arch random_arch(const Space& space, std::uint64_t seed, std::uint64_t draw);

struct RandomSearch {
  std::uint64_t seed = 0;
  int count = 1;
  double min_cost = -std::numeric_limits<double>::infinity();
  double max_cost = std::numeric_limits<double>::infinity();
  std::uint64_t max_rejections = 2'000'000;  // in a row
  /// Called every 4096 draws with draws and found so far; false ends the search early.
  std::function<bool(std::uint64_t draws, int found)> progress = {};
};

/// The accepted ones, in order of draw; `cost` may be null where no bounds are set. Fewer than
/// asked only if `progress` said stop. Error if bounds are crossed or lack a cost, or after
/// max_rejections: how many of how many were accepted, and the range of costs seen.
std::vector<Arch> random_search(const Space& space, const CostModel* cost,
                                const RandomSearch& options);

}  // namespace tunas::search
