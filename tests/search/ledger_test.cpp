// The bytes of training passes: what our kernels declare, against the full-fusion floor.
#include "search/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "search/random_search.h"

namespace tunas::search {
namespace {

constexpr int kImages = 128;

/// Of the floor, in bf16 at 224 pixels.
double times_floor(const Space& space, const Arch& arch) {
  const LedgerRow all = total(ledger(space, arch, DType::bf16, kImages));
  return all.fused.sum() / all.floor.sum();
}

double times_floor(const char* name) {
  const Space space = Space::named(name);
  return times_floor(space, Arch::largest(space));
}

TEST(Ledger, ReferenceNetworksKeepToTheFloor) {
  EXPECT_LE(times_floor("mobilenet_v3_large"), 0.88);
  EXPECT_LE(times_floor("mobilenet_v2"), 0.80);
}

TEST(Ledger, TheMedianArchitectureOfEachSpaceKeepsToTheFloor) {
  for (const char* name :
       {"proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"}) {
    const Space space = Space::named(name);
    std::vector<double> times;
    for (std::uint64_t draw = 0; draw < 21; ++draw) {
      times.push_back(times_floor(space, random_arch(space, 1, draw)));
    }
    std::sort(times.begin(), times.end());
    std::printf("[ ledger   ] %-30s median %.3f of the floor, %.3f to %.3f\n", name, times[10],
                times.front(), times.back());
    EXPECT_LE(times[10], 1.25) << name;
  }
}

TEST(Ledger, RowsAreTheLayersAndAddUp) {
  const Space space = Space::named("mobilenet_v3_large");
  const std::vector<LedgerRow> rows = ledger(space, Arch::largest(space), DType::bf16, kImages);
  for (const LedgerRow& row : rows) {
    std::printf("[ ledger   ] %-18s forward %6.2f %6.2f %6.2f  backward %6.2f %6.2f %6.2f\n",
                row.layer.c_str(), row.composed.forward / 1e6, row.fused.forward / 1e6,
                row.floor.forward / 1e6, row.composed.backward / 1e6, row.fused.backward / 1e6,
                row.floor.backward / 1e6);
  }
  const LedgerRow all = total(rows);
  const Moved floor = fusion_floor(resolve(space, Arch::largest(space), space.resolution));
  EXPECT_NEAR(all.floor.sum() / (2 * floor.sum()), 1, 1e-12);
  EXPECT_NEAR(all.floor.sum() / 1e6, 57, 0.5);
  EXPECT_NEAR(all.composed.sum() / 1e6, 177, 12) << "the design's 16 O + 3 I, sums and gates added";
  for (const LedgerRow& row : rows) {
    EXPECT_GT(row.fused.sum(), 0) << row.layer;
    EXPECT_LE(row.floor.sum(), row.composed.sum()) << row.layer;
  }
  EXPECT_EQ(rows.front().layer, "images");
  EXPECT_EQ(rows.back().layer, "loss");
}

// The first block of V3-Large adds the stem's output, which its depthwise convolution reads, too.
TEST(Ledger, ASumOfWhatAConvolutionReadsTakesNoPassOfItsOwn) {
  const Space space = Space::named("mobilenet_v3_large");
  const double tensor = 2.0 * 112 * 112 * 16;  // all of its tensors are of one size
  // Of project dy, y, u and du; of depthwise also what the sum left; for project's sums dy and y.
  const double backward = (4 + 5 + 2) * tensor;
  for (const LedgerRow& row : ledger(space, Arch::largest(space), DType::bf16, kImages)) {
    if (row.layer != "blocks/0/layers/2") continue;
    EXPECT_NEAR(row.fused.backward, backward, 0.01 * tensor);
    return;
  }
  FAIL() << "no such layer";
}

TEST(Ledger, FloatsAreTwiceAsLarge) {
  const Space space = Space::named("mobilenet_v2");
  const LedgerRow half = total(ledger(space, Arch::largest(space), DType::bf16, kImages));
  const LedgerRow whole = total(ledger(space, Arch::largest(space), DType::f32, kImages));
  EXPECT_EQ(whole.floor.sum(), 2 * half.floor.sum());
  EXPECT_EQ(whole.composed.sum(), 2 * half.composed.sum());
  EXPECT_GT(whole.fused.sum(), 1.5 * half.fused.sum());
}

}  // namespace
}  // namespace tunas::search
