// A latency table made from times that follow a formula: it finds the formula, CostTable reads what
// it writes, and a few disturbed networks do not move it.
#include "search/latency_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/cost_table.h"
#include "search/random_search.h"

namespace tunas::search {
namespace {

constexpr double kBias = 3, kScale = 1.25;

/// What a layer takes: a function of its widths and kernel, as in reality of neighbours' widths.
double seconds(const PlanLayer& layer) {
  if (layer.keep == 0) return 0;
  const int k = layer.kernels.empty() ? 1 : layer.kernels[0].k;
  return 0.01 * layer.c_in.now + 0.003 * layer.c_out.now * k + 0.002 * layer.c_exp.now +
         0.1 * layer.squeeze_excite * layer.c_hidden.now;
}

struct Times {
  std::vector<double> layers;
  double whole = kBias;
};
Times times_of(const Space& space, const Arch& arch) {
  const Plan plan = resolve(space, arch, space.resolution);
  Times times;
  for (const PlanLayer& layer : plan.layers) times.layers.push_back(seconds(layer));
  times.layers.push_back(0.02 * plan.c_head.now);
  for (const double t : times.layers) times.whole += kScale * t;
  return times;
}

TEST(LatencyTable, FindsWhatTheTimesFollow) {
  for (const char* name : {"proxylessnas_search", "proxylessnas_enlarged_search"}) {
    const Space space = Space::named(name);
    LatencyTable table(space);
    EXPECT_THROW(table.fit(), Error) << "nothing was measured";
    std::int64_t most = 0;  // states of one layer: so many networks it takes at least
    std::uint64_t draw = 0;
    for (; table.unseen() > 0; ++draw) {
      const Arch arch = table.next(7, draw);
      check(space, arch);
      Times times = times_of(space, arch);
      if (draw % 20 == 3) times.whole *= 3;  // something else ran
      table.add(arch, times.layers, times.whole);
      ASSERT_LT(draw, 10'000u);
    }
    most = table.states() / static_cast<std::int64_t>(table.layers().size());
    EXPECT_GE(static_cast<std::int64_t>(draw), most);
    table.fit();
    EXPECT_NEAR(table.bias(), kBias, 0.05);
    EXPECT_NEAR(table.scale(), kScale, 0.01);

    const std::string json = table.json(space.resolution, {{"unit", "ms"}});
    const CostTable read = CostTable::parse(json, "table", space);
    for (int i = 0; i < 50; ++i) {
      const Arch arch = random_arch(space, 1, i);
      EXPECT_NEAR(read.cost(arch), table.cost(arch), 1e-9);
      EXPECT_NEAR(read.cost(arch), times_of(space, arch).whole, 0.1);
    }
    // The same times in another unit.
    const Arch arch = random_arch(space, 1, 0);
    const double cost = table.cost(arch);
    table.fit(2);
    EXPECT_NEAR(table.cost(arch), 2 * cost, 1e-9);
    EXPECT_NEAR(table.scale(), kScale, 0.01);
  }
}

TEST(LatencyTable, AStateThatWasSeenOftenHasTheMedian) {
  const Space space = Space::named("mobilenet_v2");
  LatencyTable table(space);
  EXPECT_EQ(table.states(), static_cast<std::int64_t>(table.layers().size()));
  const Arch arch = table.next(0, 0);
  for (const double t : {1.0, 50.0, 2.0}) {
    table.add(arch, std::vector<double>(table.layers().size(), t),
              t * static_cast<double>(table.layers().size()));
  }
  table.fit();
  EXPECT_EQ(table.scale(), 1) << "one network has no slope";
  EXPECT_DOUBLE_EQ(table.cost(arch), 2.0 * static_cast<double>(table.layers().size()));
  EXPECT_THROW(table.add(arch, {1.0}, 1), Error);
}

TEST(LatencyTable, NetworksAreAFunctionOfSeedAndDraw) {
  const Space space = Space::named("mobilenet_v3_like_search");
  const LatencyTable table(space);
  EXPECT_EQ(table.next(1, 5), table.next(1, 5));
  EXPECT_NE(table.next(1, 5), table.next(2, 5));
  EXPECT_NE(table.next(1, 5), table.next(1, 6));
}

}  // namespace
}  // namespace tunas::search
