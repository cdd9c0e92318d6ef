// The parameter store: layout, initial values, the shard tree, running averages.
#include "engine/param.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

TEST(ParamStore, InitialValuesFollowTheSpecification) {
  Device device = Device::cpu(1);
  ParamStore store;
  const Weight kernel = store.add("kernel", {-1, 64, 1, 128}, Init::he(128));
  const Weight plain = store.add("plain", {-1, 100, 1, 256}, {Init::Kind::normal, 0.01});
  const Weight stem = store.add("stem", {-1, 16, 3, 4}, Init::he(27), 3);
  const Weight one = store.add("one", {-1, 1, 1, 24}, {Init::Kind::constant, 1.0});
  store.allocate(device, 1, 0);
  store.init(7);

  const auto moments = [&store](const Weight& w, std::size_t n) {
    double sum = 0, squares = 0, most = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double v = store.data(w)[i];
      sum += v;
      squares += v * v;
      most = std::max(most, std::abs(v));
    }
    return std::array<double, 3>{sum / static_cast<double>(n),
                                 std::sqrt(squares / static_cast<double>(n)), most};
  };
  const double sigma = std::sqrt(2.0 / 128);
  const auto he = moments(kernel, 64 * 128);
  EXPECT_NEAR(he[0], 0, 4 * sigma / std::sqrt(64 * 128));
  EXPECT_NEAR(he[1], sigma, 0.03 * sigma);
  EXPECT_LE(he[2], 2 * sigma / 0.87962566103423978 * 1.000001) << "cut at two sigma";
  const auto normal = moments(plain, 100 * 256);
  EXPECT_NEAR(normal[1], 0.01, 0.0003);
  EXPECT_GT(normal[2], 0.03) << "not cut";
  for (int i = 0; i < 16 * 9 * 4; ++i) {
    if (i % 4 == 3) {
      EXPECT_EQ(store.data(stem)[i], 0.0f) << "padding channel " << i;
    }
  }
  EXPECT_EQ(store.data(one)[23], 1.0f);
  EXPECT_EQ(store.find("stem")->shape, (std::vector<std::int64_t>{16, 3, 3, 3}));
  EXPECT_EQ(store.find("none"), nullptr);
}

TEST(ParamStore, ASeedGivesTheSameValuesWhateverElseIsThere) {
  Device device = Device::cpu(1);
  ParamStore a, b;
  const Weight first_a = a.add("x", {-1, 8, 1, 16}, Init::he(16));
  const Weight first_b = b.add("x", {-1, 8, 1, 16}, Init::he(16));
  b.add("y", {-1, 8, 1, 16}, Init::he(16));
  for (ParamStore* store : {&a, &b}) {
    store->allocate(device, 1, 0);
    store->init(3);
  }
  for (int i = 0; i < 128; ++i) EXPECT_EQ(a.data(first_a)[i], b.data(first_b)[i]);
}

TEST(ParamStore, RunningAveragesBecomeTheMeanOverShards) {
  Device device = Device::cpu(1);
  ParamStore store;
  Weight sizes{-1, 1, 1, 8};
  sizes.running = true;
  store.add("w", {-1, 8, 1, 16}, Init::he(16));
  const Weight mean = store.add("mean", sizes, {Init::Kind::constant, 2.0});
  store.allocate(device, 2, 0);
  store.init(0);
  for (int shard = 0; shard < 2; ++shard) {
    store.begin_shard();
    EXPECT_EQ(store.grad(mean)[0], 2.0f) << "every shard starts from the last step's value";
    store.grad(mean)[0] = shard == 0 ? 3.0f : 7.0f;
    store.end_shard();
  }
  store.finish_sum();
  EXPECT_EQ(store.data(mean)[0], 2.0f) << "not before it is asked for";
  store.update_running(2);
  EXPECT_EQ(store.data(mean)[0], 5.0f);
  EXPECT_EQ(store.data(mean)[1], 2.0f);
}

}  // namespace
}  // namespace tunas::engine
