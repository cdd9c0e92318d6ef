// The floor of the reference networks against the numbers of the design, and of small changes.
#include "search/fusion_floor.h"

#include <gtest/gtest.h>

namespace tunas::search {
namespace {

Moved floor_of(const Space& space, int resolution) {
  return fusion_floor(resolve(space, Arch::largest(space), resolution));
}

/// Megabytes an image of a training pass in bf16 at 224 pixels.
double megabytes(const char* name) {
  const Moved floor = floor_of(Space::named(name), 224);
  return 2e-6 * (floor.forward + floor.backward);
}

TEST(FusionFloor, OfTheReferenceNetworks) {
  EXPECT_NEAR(megabytes("mobilenet_v3_large"), 57, 0.5);
  EXPECT_NEAR(megabytes("mobilenet_v2"), 82, 0.5);
}

TEST(FusionFloor, ByHand) {
  const Space space =
      Space::parse(R"json({"name": "hand", "resolution": 16, "classes": 10, "blocks": [
      {"filters": 8, "layers": [
        {"op": "conv", "kernel": 3, "stride": 2},
        {"op": "bottleneck", "kernel": 3, "expansion": 2, "squeeze_excite": true, "residual": true},
        {"op": "bottleneck", "kernel": 3, "expansion": 3, "stride": 2}]},
      {"filters": 24, "layers": [
        {"op": "conv", "kernel": 1}, {"op": "activation", "act": "relu"}, {"op": "global_pool"}]}]})json",
                   "hand");
  const double image = 4 * 256, x = 8 * 64, wide = 16 * 64;
  const double wider = 24 * 64, small = 24 * 16, y = 8 * 16, head = 24 * 16, logits = 24 + 10;
  const double convs = (image + x) + (x + wide) + (wide + wide) + (wide + x) + (x + wider) +
                       (wider + small) + (small + y) + (y + head) + logits;
  const Moved floor = floor_of(space, 16);
  EXPECT_EQ(floor.forward, convs + 2 * x + wide);
  EXPECT_EQ(floor.backward, 2 * convs + x);
}

TEST(FusionFloor, OptionsThatRunTogetherCountOneByOne) {
  const Space space = Space::named("proxylessnas_search");
  Arch one = Arch::largest(space);
  for (std::size_t d = 0; d < one.values.size(); ++d) {
    if (one.values[d] == kAll) one.values[d] = 0;
  }
  EXPECT_GT(floor_of(space, 224).forward, 1.5 * fusion_floor(resolve(space, one, 224)).forward);
}

TEST(FusionFloor, SkippedLayersMoveNothing) {
  const Space space = Space::named("proxylessnas_search");
  Arch with = Arch::largest(space), without = with;
  for (std::size_t d = 0; d < with.values.size(); ++d) {
    if (with.values[d] != kAll) continue;
    with.values[d] = 0;
    without.values[d] = static_cast<std::int8_t>(space.decisions[d].options.back() == "skip");
  }
  EXPECT_LT(fusion_floor(resolve(space, without, 224)).forward,
            0.8 * fusion_floor(resolve(space, with, 224)).forward);
}

}  // namespace
}  // namespace tunas::search
