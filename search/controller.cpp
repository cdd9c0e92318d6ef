#include "search/controller.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace tunas::search {
namespace {

double uniform(const PhiloxKey& key, std::size_t index) {
  const Random4 bits = philox(key, index);
  return uniform_double(bits.v[0], bits.v[1]);
}

/// The option whose share of [0, 1) holds u.
std::int8_t pick(const std::vector<double>& p, double u) {
  double below = 0;
  for (std::size_t i = 0; i + 1 < p.size(); ++i) {
    below += p[i];
    if (u < below) return static_cast<std::int8_t>(i);
  }
  return static_cast<std::int8_t>(p.size() - 1);
}

double entropy_of(const std::vector<double>& p) {
  double sum = 0;
  for (const double x : p) sum -= x > 0 ? x * std::log(x) : 0;
  return sum;
}

/// Where a replaced decision goes: all operations, the largest filters.
std::int8_t replacement(const PolicyDecision& d) {
  if (d.tag == Tag::filters) return static_cast<std::int8_t>(d.options - 1);
  return d.options > 1 ? kAll : 0;
}

double probability_of(const Warmup& warmup, Tag tag) {
  return tag == Tag::operation ? warmup.operations : warmup.filters;
}

}  // namespace

double DebiasedAverage::add(double x) {
  sum = momentum * sum + (1 - momentum) * x;
  weight = momentum * weight + (1 - momentum);
  return sum / weight;
}

double AdamVariant::step(double mean_g, double mean_g2, std::int64_t t, double& v) const {
  v = beta2 * v + (1 - beta2) * mean_g2;
  const double unbias = std::sqrt(1 - std::pow(beta2, static_cast<double>(t)));
  return unbias * mean_g / (std::sqrt(v) + epsilon);
}

std::vector<PolicyDecision> policy_decisions(const Space& space) {
  std::vector<PolicyDecision> all;
  for (const Decision& d : space.decisions) {
    all.push_back({d.tag, static_cast<int>(d.options.size()), kFixed, 0});
  }
  for (const Block& block : space.blocks) {
    for (const Layer& layer : block.layers) {
      for (const int child :
           {layer.kernel_decision, layer.expansion_decision, layer.squeeze_excite_decision}) {
        if (child != kFixed) all[static_cast<std::size_t>(child)].parent = layer.skip_decision;
      }
    }
  }
  return all;
}

Controller::Controller(const Space& space, const ControllerConfig& config)
    : Controller(policy_decisions(space), config) {}

Controller::Controller(std::vector<PolicyDecision> decisions, const ControllerConfig& config)
    : decisions_(std::move(decisions)), config_(config) {
  require(config.temperature > 0, "controller temperature ", config.temperature, " is not above 0");
  for (const PolicyDecision& d : decisions_) {
    state_.logits.emplace_back(static_cast<std::size_t>(d.options), 0.0);
  }
  state_.mean_squares = state_.logits;
  state_.baseline.momentum = config.baseline_momentum;
}

std::vector<double> Controller::probabilities(int decision) const {
  std::vector<double> p = state_.logits[static_cast<std::size_t>(decision)];
  const double top = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& x : p) sum += x = std::exp((x - top) / config_.temperature);
  for (double& x : p) x /= sum;
  return p;
}

bool Controller::is_active(const Arch& arch, int decision) const {
  if (config_.nesting == Nesting::flat) return true;
  for (int d = decision; decisions_[d].parent != kFixed; d = decisions_[d].parent) {
    const int value = arch.values[static_cast<std::size_t>(decisions_[d].parent)];
    if (value != kAll && value != decisions_[d].parent_option) return false;
  }
  return true;
}

Sample Controller::sample(std::uint64_t seed, std::uint32_t step, std::uint32_t shard,
                          const Warmup& warmup) const {
  const PhiloxKey choice{seed, Purpose::policy, step, shard};
  const PhiloxKey coin{seed, Purpose::warmup, step, shard};
  Arch drawn;
  std::vector<std::uint8_t> replaced;
  for (std::size_t d = 0; d < decisions_.size(); ++d) {
    drawn.values.push_back(pick(probabilities(static_cast<int>(d)), uniform(choice, d)));
    replaced.push_back(uniform(coin, d) < probability_of(warmup, decisions_[d].tag) ? 1 : 0);
  }
  return evaluate(drawn, replaced, warmup);
}

Sample Controller::evaluate(const Arch& drawn, const std::vector<std::uint8_t>& replaced,
                            const Warmup& warmup) const {
  Sample sample{drawn, drawn, replaced, {}, 0, 0};
  for (std::size_t d = 0; d < decisions_.size(); ++d) {
    if (replaced[d]) sample.arch.values[d] = replacement(decisions_[d]);
  }
  for (std::size_t d = 0; d < decisions_.size(); ++d) {
    sample.active.push_back(is_active(sample.arch, static_cast<int>(d)) ? 1 : 0);
    if (!sample.active[d]) continue;
    const std::vector<double> p = probabilities(static_cast<int>(d));
    const double q = probability_of(warmup, decisions_[d].tag);
    const auto choice = static_cast<std::size_t>(drawn.values[d]);
    sample.log_prob += replaced[d] ? std::log(q) : std::log1p(-q) + std::log(p[choice]);
    sample.entropy += entropy_of(p);
  }
  return sample;
}

void Controller::add_gradient(const Sample& sample, double advantage, std::size_t decision,
                              Gradient& gradient) const {
  if (!sample.active[decision]) return;
  const std::vector<double> p = probabilities(static_cast<int>(decision));
  const double h = entropy_of(p);
  for (std::size_t i = 0; i < p.size(); ++i) {
    // dH/dlogit = -p (log p + H) / T, whether the decision was replaced or not.
    if (p[i] > 0) gradient.entropy[i] -= p[i] * (std::log(p[i]) + h) / config_.temperature;
    if (sample.replaced[decision]) continue;
    const double hit = static_cast<int>(i) == sample.drawn.values[decision] ? 1 : 0;
    const double g = -advantage * (hit - p[i]) / config_.temperature;
    gradient.sum[i] += g;
    gradient.squares[i] += g * g;
  }
}

StepStats Controller::update(std::span<const Sample> samples, std::span<const double> rewards,
                             double learning_rate) {
  require(!samples.empty() && samples.size() == rewards.size(), "a controller step of ",
          samples.size(), " samples and ", rewards.size(), " rewards; give one reward per sample");
  const double shards = static_cast<double>(samples.size());
  StepStats stats;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    if (!std::isfinite(rewards[s])) {
      fail(Exit::numeric, "the reward of shard ", s, " is ", rewards[s],
           "; lower the learning rate of the weights");
    }
    stats.mean_reward += rewards[s] / shards;
    stats.entropy += samples[s].entropy / shards;
    stats.log_prob += samples[s].log_prob / shards;
  }
  stats.baseline = state_.baseline.add(stats.mean_reward);
  ++state_.updates;
  for (std::size_t d = 0; d < decisions_.size(); ++d) {
    std::vector<double>& logits = state_.logits[d];
    const std::vector<double> zeros(logits.size());
    Gradient gradient{zeros, zeros, zeros};
    for (std::size_t s = 0; s < samples.size(); ++s) {
      add_gradient(samples[s], rewards[s] - stats.baseline, d, gradient);
    }
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] -= learning_rate *
                   config_.optimizer.step(gradient.sum[i] / shards, gradient.squares[i] / shards,
                                          state_.updates, state_.mean_squares[d][i]);
      logits[i] += learning_rate * config_.entropy_weight * gradient.entropy[i] / shards;
    }
  }
  return stats;
}

Arch Controller::most_likely() const {
  Arch arch;
  for (const std::vector<double>& logits : state_.logits) {
    arch.values.push_back(
        static_cast<std::int8_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return arch;
}

void Controller::restore(const ControllerState& state) {
  const auto same_shape = [](const auto& a, const auto& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const auto& x, const auto& y) { return x.size() == y.size(); });
  };
  require(same_shape(state.logits, state_.logits) &&
              same_shape(state.mean_squares, state_.mean_squares),
          "the controller's saved state belongs to another search space; resume with the space "
          "it was saved from");
  state_ = state;
}

}  // namespace tunas::search
