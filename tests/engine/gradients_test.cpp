// Sums of gradients over shards: one tree for any number of shards, and for any number of ranks.
#include "engine/gradients.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/support/watching_comm.h"

namespace tunas::engine {
namespace {

/// The sum over [begin, end) of one fixed binary tree: left half plus right half.
float tree(const std::vector<float>& g, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return g[begin];
  std::size_t half = 1;
  while (2 * half < end - begin) half *= 2;
  return tree(g, begin, begin + half) + tree(g, begin + half, end);
}

/// Of shard `s`, element `i`: their sum depends on the order of additions.
float value(int s, std::size_t i) {
  return std::ldexp(1.0f + 0.37f * static_cast<float>(s), (s * 7 + 3) % 24) /
         static_cast<float>(i % 1000 + 1);
}

TEST(Gradients, AreSummedInOneFixedTree) {
  constexpr std::size_t kCount = 128;
  const Device device = Device::cpu(2);
  for (const int shards : {1, 2, 3, 4, 5, 7, 8, 16}) {
    Gradients gradients(device, solo(), kCount, shards);
    for (int step = 0; step < 2; ++step) {
      for (int s = 0; s < shards; ++s) {
        for (std::size_t i = 0; i < kCount; ++i) gradients.current()[i] = value(s, i);
        gradients.passed(kCount / 2);
        gradients.end_shard();
      }
      gradients.finish();
      for (std::size_t i = 0; i < kCount; ++i) {
        std::vector<float> g;
        for (int s = 0; s < shards; ++s) g.push_back(value(s, i));
        EXPECT_EQ(gradients.current()[i], tree(g, 0, g.size())) << shards << " shards";
      }
    }
  }
}

TEST(Gradients, GoToTheRanksInBucketsFromTheEndOnceTheLastShardHasPassedThem) {
  constexpr std::size_t kBucket = Gradients::kBucket, kCount = 3 * kBucket + 77;
  const Device device = Device::cpu(2);
  WatchingComm comm(2);
  Gradients gradients(device, comm, kCount, 6);
  for (int s = 0; s < 3; ++s) {
    for (std::size_t i = 0; i < kCount; ++i) gradients.current()[i] = value(s, i);
    EXPECT_EQ(gradients.starts_sums(), s == 2);
    gradients.passed(kCount - 1);            // too little for a bucket
    gradients.passed(kCount - kBucket - 5);  // the first one
    gradients.passed(kCount - kBucket - 6);
    gradients.passed(40);  // all but the rest
    EXPECT_EQ(comm.sums().size(), s == 2 ? 2u : 0u);
    gradients.end_shard();
  }
  gradients.finish();
  EXPECT_TRUE(comm.left_alone());
  ASSERT_EQ(comm.sums().size(), 3u);
  const float* begin = gradients.current();
  EXPECT_EQ(comm.sums()[0].data(), begin + kCount - kBucket - 5);
  EXPECT_EQ(comm.sums()[0].size(), kBucket + 5);
  EXPECT_EQ(comm.sums()[1].data(), begin + 40);
  EXPECT_EQ(comm.sums()[1].size(), kCount - kBucket - 5 - 40);
  EXPECT_EQ(comm.sums()[2].data(), begin);
  EXPECT_EQ(comm.sums()[2].size(), 40u);
  for (const std::size_t i : {std::size_t{0}, std::size_t{39}, std::size_t{40}, kCount - 1}) {
    EXPECT_EQ(begin[i], tree({value(0, i), value(1, i), value(2, i)}, 0, 3)) << i;
  }
}

TEST(Gradients, NeedShardsThatDivide) {
  const Device device = Device::cpu(1);
  WatchingComm comm(4);
  try {
    Gradients(device, comm, 8, 6);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "6 shards cannot be spread evenly over 4 ranks; use --shards 8 or another number "
                 "of ranks");
  }
}

}  // namespace
}  // namespace tunas::engine
