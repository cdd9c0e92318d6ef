#include "search/reward.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "search/nearest_name.h"

namespace tunas::search {

RewardKind reward_kind(std::string_view name) {
  const std::vector<std::string> names = {"absolute", "soft", "hard", "none"};
  const auto found = std::find(names.begin(), names.end(), name);
  require(found != names.end(), "reward '", name, "' is unknown; did you mean ",
          nearest_name(name, names), "? (absolute, soft, hard, none)");
  return static_cast<RewardKind>(found - names.begin());
}

double Reward::operator()(double accuracy, double cost) const {
  const double r = cost / target;
  switch (kind) {
    case RewardKind::absolute:
      return accuracy + exponent * std::abs(r - 1);
    case RewardKind::soft:
      return accuracy * std::pow(r, exponent);
    case RewardKind::hard:
      return accuracy * std::min(std::pow(r, exponent), 1.0);
    case RewardKind::none:
      break;
  }
  return accuracy;
}

}  // namespace tunas::search
