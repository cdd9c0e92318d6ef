// The controller: independent softmax policies over the decisions, trained by REINFORCE
// (specification, sections 10 and 12), in double on the host.
//
//   p_d      = softmax(logits_d / T);  every shard draws its own architecture
//   log_prob = sum over active d of: log(q) if d was replaced, else log(1-q) + log p_d(choice)
//   g_d      = -(reward - baseline) * (onehot(choice) - p_d)/T if d is active and not replaced,
//              else 0
//   m = mean over shards of g;  v <- beta2*v + (1-beta2) * mean over shards of g^2
//   logits  -= rate*sqrt(1 - beta2^t)*m/(sqrt(v) + epsilon) - rate*lambda*mean grad entropy
//
// A decision inside a layer is active if the layer's keep has a mask weight above 0. In warm-up a
// decision is replaced, with probability q, by all operations or by the largest filters.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "search/arch.h"

namespace tunas::search {

/// What the policy must know of a decision: it lives inside option `parent_option` of `parent`.
struct PolicyDecision {
  Tag tag = Tag::operation;
  int options = 1;
  int parent = kFixed;
  int parent_option = 0;
};
std::vector<PolicyDecision> policy_decisions(const Space& space);

/// Whether terms of decisions under an option with mask weight 0 count; flat counts all.
enum class Nesting : unsigned char { hierarchical, flat };

/// Adam with beta1 = 0, whose gradients are averaged over shards after squaring.
struct AdamVariant {
  double beta2 = 0.999;
  double epsilon = 1e-8;

  /// Advances v by the mean of g^2 and returns sqrt(1 - beta2^t)*mean_g/(sqrt(v) + epsilon), the
  /// step at learning rate 1; t counts updates from 1.
  double step(double mean_g, double mean_g2, std::int64_t t, double& v) const;
};

struct ControllerConfig {
  double temperature = 1;
  double baseline_momentum = 0.95;
  AdamVariant optimizer = {};
  double entropy_weight = 0;  // lambda
  Nesting nesting = Nesting::hierarchical;
};

/// Exponential moving average without the bias of its start at 0.
struct DebiasedAverage {
  double momentum = 0.95;
  double sum = 0;
  double weight = 0;

  /// Takes in `x` and returns the average.
  double add(double x);

  friend bool operator==(const DebiasedAverage&, const DebiasedAverage&) = default;
};

struct Sample {
  Arch arch;   // as it runs, replacements included
  Arch drawn;  // before replacement
  std::vector<std::uint8_t> replaced;
  std::vector<std::uint8_t> active;
  double log_prob = 0;
  double entropy = 0;
};

/// Probabilities of replacement at a step.
struct Warmup {
  double operations = 0;
  double filters = 0;
};

struct StepStats {
  double baseline = 0;  // this step's mean reward included
  double mean_reward = 0;
  double entropy = 0;  // means over the samples
  double log_prob = 0;
};

/// Everything that a checkpoint must hold.
struct ControllerState {
  std::vector<std::vector<double>> logits;
  std::vector<std::vector<double>> mean_squares;
  DebiasedAverage baseline;
  std::int64_t updates = 0;

  friend bool operator==(const ControllerState&, const ControllerState&) = default;
};

class Controller {
 public:
  Controller(const Space& space, const ControllerConfig& config = {});
  Controller(std::vector<PolicyDecision> decisions, const ControllerConfig& config = {});

  /// The architecture of one shard at one step: a function of its arguments and the logits.
  Sample sample(std::uint64_t seed, std::uint32_t step, std::uint32_t shard,
                const Warmup& warmup) const;
  /// A sample with given choices and replacements: their mask, terms and activity.
  Sample evaluate(const Arch& drawn, const std::vector<std::uint8_t>& replaced,
                  const Warmup& warmup) const;

  /// One step over all shards, in shard order. Error (numeric) if a reward is not finite.
  StepStats update(std::span<const Sample> samples, std::span<const double> rewards,
                   double learning_rate);

  /// Per decision the option of the largest logit, the first on ties.
  Arch most_likely() const;
  std::vector<double> probabilities(int decision) const;

  const ControllerState& state() const { return state_; }
  /// Error if the shapes are those of another space.
  void restore(const ControllerState& state);

 private:
  bool is_active(const Arch& arch, int decision) const;
  struct Gradient {  // of one decision, summed over samples
    std::vector<double> sum, squares, entropy;
  };
  void add_gradient(const Sample& sample, double advantage, std::size_t decision,
                    Gradient& gradient) const;

  std::vector<PolicyDecision> decisions_;
  ControllerConfig config_;
  ControllerState state_;
};

}  // namespace tunas::search
