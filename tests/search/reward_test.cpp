#include "search/reward.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/support/golden.h"

namespace tunas::search {
namespace {

double reward(RewardKind kind, const nlohmann::json& c) {
  const Reward r{kind, c["target"], c["exponent"]};
  return r(c["quality"], c["cost"]);
}

TEST(Reward, ByHand) {
  const Reward absolute{RewardKind::absolute, 50, -0.1};
  EXPECT_DOUBLE_EQ(absolute(0.6, 50), 0.6);
  EXPECT_DOUBLE_EQ(absolute(0.6, 100), 0.5);
  EXPECT_DOUBLE_EQ(absolute(0.6, 25), 0.55);
  EXPECT_DOUBLE_EQ((Reward{RewardKind::hard, 50, -0.1}(0.6, 25)), 0.6);
  EXPECT_GT((Reward{RewardKind::soft, 50, -0.1}(0.6, 25)), 0.6);
  EXPECT_DOUBLE_EQ((Reward{RewardKind::none, 50, -0.1}(0.6, 1e9)), 0.6);
}

TEST(Reward, Names) {
  EXPECT_EQ(reward_kind("absolute"), RewardKind::absolute);
  EXPECT_EQ(reward_kind("soft"), RewardKind::soft);
  EXPECT_EQ(reward_kind("hard"), RewardKind::hard);
  EXPECT_EQ(reward_kind("none"), RewardKind::none);
  try {
    reward_kind("absolut");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("did you mean absolute?"), std::string::npos) << e.what();
  }
}

TEST(RewardGolden, Values) {
  const auto values = test::read_golden("unit_values.json");
  auto cases = values["reward_more"];
  cases.push_back(values["reward"]);
  for (const auto& c : cases) {
    EXPECT_NEAR(reward(RewardKind::soft, c), c["soft_power"].get<double>(), 1e-12);
    EXPECT_NEAR(reward(RewardKind::hard, c), c["hard_power"].get<double>(), 1e-12);
    EXPECT_NEAR(reward(RewardKind::absolute, c), c["absolute"].get<double>(), 1e-12);
  }
}

}  // namespace
}  // namespace tunas::search
