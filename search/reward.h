// The reward of an architecture (specification, section 11). With Q = accuracy in 0..1,
// r = cost/target and b = exponent:
//
//   absolute  Q + b*|r - 1|      soft  Q*r^b      hard  Q*min(r^b, 1)      none  Q
#pragma once

#include <string_view>

namespace tunas::search {

enum class RewardKind : unsigned char { absolute, soft, hard, none };

/// Error with the nearest name where `name` is none of the four.
RewardKind reward_kind(std::string_view name);

struct Reward {
  RewardKind kind = RewardKind::absolute;
  double target = 1;  // in the unit of the cost; above 0
  double exponent = -0.1;

  double operator()(double accuracy, double cost) const;
};

}  // namespace tunas::search
