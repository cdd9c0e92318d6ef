#include "search/random_search.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace tunas::search {

Arch random_arch(const Space& space, std::uint64_t seed, std::uint64_t draw) {
  const PhiloxKey key{seed, Purpose::sample_space, static_cast<std::uint32_t>(draw),
                      static_cast<std::uint32_t>(draw >> 32)};
  Arch arch;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const Random4 bits = philox(key, d);
    const double u = uniform_double(bits.v[0], bits.v[1]);
    const double options = static_cast<double>(space.decisions[d].options.size());
    arch.values.push_back(static_cast<std::int8_t>(u * options));
  }
  return arch;
}

std::vector<Arch> random_search(const Space& space, const CostModel* cost,
                                const RandomSearch& options) {
  const bool bounded = std::isfinite(options.min_cost) || std::isfinite(options.max_cost);
  require(options.min_cost <= options.max_cost, "the smallest cost ", options.min_cost,
          " is above the largest, ", options.max_cost);
  require(!bounded || cost, "a range of costs needs a cost model; name one");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double lowest = kInfinity, highest = -kInfinity;
  std::vector<Arch> found;
  const auto count = static_cast<std::size_t>(std::max(0, options.count));
  std::uint64_t rejected = 0;
  for (std::uint64_t draw = 0; found.size() < count; ++draw) {
    if (rejected > options.max_rejections) {
      fail(Exit::usage, "only ", found.size(), " of ", draw, " random architectures of ",
           space.name, " cost between ", options.min_cost, " and ", options.max_cost,
           "; the costs drawn reach from ", lowest, " to ", highest, ": choose bounds inside");
    }
    if (draw % 4096 == 4095 && options.progress &&
        !options.progress(draw + 1, static_cast<int>(found.size()))) {
      break;
    }
    Arch arch = random_arch(space, options.seed, draw);
    if (bounded) {
      const double c = cost->cost(arch);
      lowest = std::min(lowest, c);
      highest = std::max(highest, c);
      ++rejected;
      if (c < options.min_cost || c > options.max_cost) continue;
      rejected = 0;
    }
    found.push_back(std::move(arch));
  }
  return found;
}

}  // namespace tunas::search
