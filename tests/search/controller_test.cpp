#include "search/controller.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "kernels/philox.h"
#include "tests/support/golden.h"

namespace tunas::search {
namespace {

using Flags = std::vector<std::uint8_t>;

std::vector<PolicyDecision> flat_decisions(const std::vector<int>& options) {
  std::vector<PolicyDecision> all;
  for (const int n : options) all.push_back({Tag::operation, n, kFixed, 0});
  return all;
}

/// A controller at given logits.
Controller at_logits(const std::vector<PolicyDecision>& decisions,
                     const std::vector<std::vector<double>>& logits,
                     const ControllerConfig& config = {}) {
  Controller controller(decisions, config);
  ControllerState state = controller.state();
  state.logits = logits;
  controller.restore(state);
  return controller;
}

double log_softmax(const std::vector<double>& logits, int choice, double temperature = 1) {
  double sum = 0;
  for (const double x : logits) sum += std::exp(x / temperature);
  return logits[static_cast<std::size_t>(choice)] / temperature - std::log(sum);
}

TEST(Controller, SamplingIsAFunctionOfItsKey) {
  const Space space = Space::named("mobilenet_v3_like_search");
  const Controller controller(space);
  const Sample a = controller.sample(1, 5, 3, {0.5, 0.5});
  EXPECT_EQ(a.arch, controller.sample(1, 5, 3, {0.5, 0.5}).arch);
  EXPECT_NE(a.drawn, controller.sample(1, 5, 4, {0.5, 0.5}).drawn);
  EXPECT_NE(a.drawn, controller.sample(1, 6, 3, {0.5, 0.5}).drawn);
  EXPECT_NE(a.drawn, controller.sample(2, 5, 3, {0.5, 0.5}).drawn);
  // Coins and choices come from different purposes: warm-up does not change what is drawn.
  EXPECT_EQ(a.drawn, controller.sample(1, 5, 3, {}).drawn);
}

TEST(Controller, DrawsFollowTheProbabilities) {
  const auto controller = at_logits(flat_decisions({3}), {{0, 1, -1}}, {.temperature = 2});
  std::vector<int> hits(3);
  constexpr int kDraws = 20000;
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    ++hits[static_cast<std::size_t>(controller.sample(9, step, 0, {}).drawn.values[0])];
  }
  for (int i = 0; i < 3; ++i) {
    const double p = std::exp(log_softmax({0, 1, -1}, i, 2));
    EXPECT_NEAR(hits[static_cast<std::size_t>(i)] / double{kDraws}, p,
                4 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST(Controller, ReplacementWidensFiltersAndAveragesOperations) {
  const Space space = Space::named("proxylessnas_enlarged_search");
  const Controller controller(space);
  EXPECT_EQ(controller.sample(3, 0, 0, {1, 1}).arch, Arch::largest(space));
  EXPECT_DOUBLE_EQ(controller.sample(3, 0, 0, {1, 1}).log_prob, 0);

  const Sample operations = controller.sample(3, 0, 0, {1, 0});
  const Sample filters = controller.sample(3, 0, 0, {0, 1});
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const bool is_filter = space.decisions[d].tag == Tag::filters;
    const Sample& kept = is_filter ? operations : filters;
    const Sample& gone = is_filter ? filters : operations;
    EXPECT_EQ(kept.arch.values[d], kept.drawn.values[d]);
    EXPECT_EQ(gone.arch.values[d], Arch::largest(space).values[d]);
    EXPECT_EQ(kept.replaced[d], 0);
    EXPECT_EQ(gone.replaced[d], 1);
  }
}

TEST(Controller, CoinsAreIndependentPerDecision) {
  const Space space = Space::named("mobilenet_v3_like_search");
  const Controller controller(space);
  double replaced = 0, decisions = 0;
  for (std::uint32_t step = 0; step < 200; ++step) {
    const Sample sample = controller.sample(1, step, 0, {0.3, 0.3});
    int here = 0;
    for (const auto r : sample.replaced) here += r;
    EXPECT_GT(here, 0);
    EXPECT_LT(here, 86);
    replaced += here;
    decisions += 86;
  }
  EXPECT_NEAR(replaced / decisions, 0.3, 4 * std::sqrt(0.21 / decisions));
}

TEST(Controller, ChoicesBelowASkippedLayerDoNotCount) {
  const Space space = Space::named("mobilenet_v3_like_search");
  const Controller controller(space);
  Arch arch;
  arch.values.assign(86, 0);
  const Flags none(86, 0);
  double all = 0;
  for (const Decision& d : space.decisions) all += std::log(double(d.options.size()));
  EXPECT_NEAR(controller.evaluate(arch, none, {}).log_prob, -all, 1e-12);
  arch.values[10] = 1;  // skips block 1, layer 1, with kernel, expansion and squeeze-excite
  const Sample skipped = controller.evaluate(arch, none, {});
  EXPECT_NEAR(skipped.log_prob, -all + std::log(3 * 6 * 2), 1e-12);
  EXPECT_NEAR(skipped.entropy, all - std::log(3 * 6 * 2), 1e-12);
  for (std::size_t d = 0; d < 86; ++d) EXPECT_EQ(skipped.active[d], d < 7 || d > 9) << d;
}

/// Specification, sections 10 and 20: under a fractional outer mask the inner decisions count,
/// and with them their gradients.
TEST(Controller, NestedDecisionUnderAFractionalOuterMask) {
  std::vector<PolicyDecision> decisions = {{Tag::operation, 3, 1, 0},
                                           {Tag::operation, 2, kFixed, 0}};
  Controller controller = at_logits(decisions, {{0.3, -0.2, 0.1}, {0.5, 0}});
  const double q = 0.4;
  // The outer decision drew "skip" but was replaced by the mean of both options.
  const Sample sample = controller.evaluate({{2, 1}}, {0, 1}, {q, q});
  EXPECT_EQ(sample.arch.values[1], kAll);
  EXPECT_EQ(sample.active, (Flags{1, 1}));
  const double inner = std::log(1 - q) + log_softmax({0.3, -0.2, 0.1}, 2);
  EXPECT_NEAR(sample.log_prob, inner + std::log(q), 1e-12);
  const std::vector<Sample> samples = {sample};
  const std::vector<double> rewards = {1};
  // A baseline that differs from the reward, so that there is an advantage.
  ControllerState state = controller.state();
  state.baseline = {0.95, 0, 1};
  controller.restore(state);
  controller.update(samples, rewards, 0.1);
  EXPECT_GT(controller.state().logits[0][2], 0.1);
  EXPECT_LT(controller.state().logits[0][0], 0.3);
  EXPECT_EQ(controller.state().logits[1], (std::vector<double>{0.5, 0}));

  // Not replaced, "skip" makes the inner decision inactive.
  const Sample skipped = controller.evaluate({{2, 1}}, {0, 0}, {});
  EXPECT_EQ(skipped.active, (Flags{0, 1}));
}

TEST(Controller, DeeperNestingFollowsTheChain) {
  // 0 lives in option 1 of 1, which lives in option 0 of 2.
  const std::vector<PolicyDecision> decisions = {
      {Tag::operation, 5, 1, 1}, {Tag::operation, 2, 2, 0}, {Tag::operation, 2, kFixed, 0}};
  const Controller controller(decisions);
  EXPECT_EQ(controller.evaluate({{4, 1, 0}}, {0, 0, 0}, {}).active, (Flags{1, 1, 1}));
  EXPECT_EQ(controller.evaluate({{4, 0, 0}}, {0, 0, 0}, {}).active, (Flags{0, 1, 1}));
  EXPECT_EQ(controller.evaluate({{4, 1, 1}}, {0, 0, 0}, {}).active, (Flags{0, 0, 1}));
}

/// log p of a sample as a function of one logit, by central differences, at several temperatures.
TEST(Controller, GradientsAreThoseOfLogProbAndEntropy) {
  const std::vector<PolicyDecision> decisions = flat_decisions({3});
  for (const double temperature : {0.5, 1.0, 3.0}) {
    const ControllerConfig config{.temperature = temperature, .entropy_weight = 0.7};
    const std::vector<double> logits = {0.2, -0.4, 0.9};
    const auto objective = [&](std::vector<double> x, double advantage) {
      const Sample s = at_logits(decisions, {x}, config).evaluate({{1}}, {0}, {});
      return advantage * s.log_prob;
    };
    const auto entropy = [&](std::vector<double> x) {
      return at_logits(decisions, {x}, config).evaluate({{1}}, {0}, {}).entropy;
    };
    Controller controller = at_logits(decisions, {logits}, config);
    ControllerState state = controller.state();
    state.baseline = {0.95, 0, 1};
    controller.restore(state);
    const std::vector<Sample> samples = {controller.evaluate({{1}}, {0}, {})};
    const std::vector<double> rewards = {2};
    const StepStats stats = controller.update(samples, rewards, 0.01);
    const double advantage = 2 - stats.baseline;
    EXPECT_NEAR(stats.baseline, 0.1, 1e-12);
    for (std::size_t i = 0; i < 3; ++i) {
      std::vector<double> up = logits, down = logits;
      up[i] += 1e-5;
      down[i] -= 1e-5;
      const double g = -(objective(up, advantage) - objective(down, advantage)) / 2e-5;
      const double h = (entropy(up) - entropy(down)) / 2e-5;
      const double v = 0.001 * g * g;
      const double expected =
          logits[i] - 0.01 * std::sqrt(0.001) * g / (std::sqrt(v) + 1e-8) + 0.01 * 0.7 * h;
      EXPECT_NEAR(controller.state().logits[0][i], expected, 1e-7) << temperature << ' ' << i;
      EXPECT_NEAR(controller.state().mean_squares[0][i], v, 1e-9);
    }
  }
}

/// Specification, section 20: three replicas, of which one has the decision inactive and one has it
/// replaced. Their zeros stay in the means of g and of g^2.
TEST(Controller, StepOverReplicasWithInactiveAndReplacedDecisions) {
  const std::vector<PolicyDecision> decisions = {{Tag::operation, 2, 1, 0},
                                                 {Tag::operation, 2, kFixed, 0}};
  Controller controller(decisions);
  const Warmup warmup{0.5, 0.5};
  const std::vector<Sample> samples = {controller.evaluate({{0, 0}}, {0, 0}, warmup),
                                       controller.evaluate({{0, 1}}, {0, 0}, warmup),
                                       controller.evaluate({{1, 0}}, {1, 0}, warmup)};
  const std::vector<double> rewards = {0.9, 0.3, 0.6};
  const StepStats stats = controller.update(samples, rewards, 0.01);
  EXPECT_NEAR(stats.mean_reward, 0.6, 1e-12);
  EXPECT_NEAR(stats.baseline, 0.6, 1e-12);
  EXPECT_NEAR(stats.entropy, (2 * std::log(2) + std::log(2) + 2 * std::log(2)) / 3, 1e-12);
  // log(1-q) = log q = log p = -log 2: two terms of two, one term of two, one of two and one of
  // one.
  EXPECT_NEAR(stats.log_prob, -(4 + 2 + 3) * std::log(2) / 3, 1e-12);
  // Inner decision: only the first replica has a gradient, -0.3*(1 - 0.5).
  const double g = -0.15, v = 0.001 * g * g / 3, step = 0.01 * std::sqrt(0.001);
  EXPECT_NEAR(controller.state().mean_squares[0][0], v, 1e-15);
  EXPECT_NEAR(controller.state().logits[0][0], -step * (g / 3) / (std::sqrt(v) + 1e-8), 1e-12);
  EXPECT_NEAR(controller.state().logits[0][1], step * (g / 3) / (std::sqrt(v) + 1e-8), 1e-12);
  // Outer: -0.3*0.5, then -(-0.3)*(-0.5), then 0.
  const double outer = -0.15 - 0.15, w = 0.001 * (2 * 0.15 * 0.15) / 3;
  EXPECT_NEAR(controller.state().logits[1][0], -step * (outer / 3) / (std::sqrt(w) + 1e-8), 1e-12);
}

TEST(Controller, StatisticsAdvanceDuringTheDelay) {
  Controller controller(flat_decisions({2}));
  for (std::uint32_t step = 0; step < 3; ++step) {
    const std::vector<Sample> samples = {controller.sample(1, step, 0, {}),
                                         controller.sample(1, step, 1, {})};
    const std::vector<double> rewards = {1, 0};
    controller.update(samples, rewards, 0);
  }
  EXPECT_EQ(controller.state().logits[0], (std::vector<double>{0, 0}));
  EXPECT_GT(controller.state().mean_squares[0][0], 0);
  EXPECT_EQ(controller.state().updates, 3);
}

TEST(Controller, MostLikelyTakesTheFirstOnTies) {
  const auto controller = at_logits(flat_decisions({3, 2, 4}), {{1, 2, 2}, {0, 0}, {-1, -3, 0, 0}});
  EXPECT_EQ(controller.most_likely().values, (std::vector<std::int8_t>{1, 0, 2}));
}

TEST(Controller, StateContinuesExactly) {
  const Space space = Space::named("proxylessnas_search");
  const auto run = [&](Controller& controller, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t step = from; step < to; ++step) {
      std::vector<Sample> samples;
      std::vector<double> rewards;
      for (std::uint32_t shard = 0; shard < 4; ++shard) {
        samples.push_back(controller.sample(5, step, shard, {0.1, 0.1}));
        rewards.push_back(samples.back().drawn.values[1] * 0.1 + shard * 0.01);
      }
      controller.update(samples, rewards, 0.05);
    }
  };
  Controller straight(space);
  run(straight, 0, 20);
  Controller first(space);
  run(first, 0, 8);
  Controller second(space);
  second.restore(first.state());
  run(second, 8, 20);
  EXPECT_EQ(second.state(), straight.state());
  EXPECT_NE(first.state(), straight.state());
  EXPECT_THROW(second.restore(Controller(Space::named("mobilenet_v3_like_search")).state()), Error);
}

TEST(Controller, BadRewardsAreNumericErrors) {
  Controller controller(flat_decisions({2}));
  const std::vector<Sample> samples = {controller.sample(1, 0, 0, {})};
  const std::vector<double> rewards = {std::nan("")};
  try {
    controller.update(samples, rewards, 0.1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::numeric);
  }
  EXPECT_THROW(controller.update(samples, {}, 0.1), Error);
}

/// A planted problem: every active decision that takes its favoured option adds to the reward,
/// under noise as large as the whole signal of a decision. Skipping is never favoured.
TEST(Controller, FindsThePlantedArchitecture) {
  const Space space = Space::named("mobilenet_v3_like_search");
  Controller controller(space);
  Arch planted;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const Decision& decision = space.decisions[d];
    const bool skip = decision.options.back() == "skip";
    const int n = static_cast<int>(decision.options.size());
    planted.values.push_back(static_cast<std::int8_t>(skip ? 0 : (7 * d + 3) % n));
  }
  for (std::uint32_t step = 0; step < 600; ++step) {
    std::vector<Sample> samples;
    std::vector<double> rewards;
    for (std::uint32_t shard = 0; shard < 16; ++shard) {
      samples.push_back(controller.sample(21, step, shard, {}));
      double reward = 0;
      for (std::size_t d = 0; d < 86; ++d) {
        if (samples.back().active[d] && samples.back().arch.values[d] == planted.values[d]) {
          reward += 0.01;
        }
      }
      const Random4 noise = philox({21, Purpose::test, step, shard}, 0);
      rewards.push_back(reward + 0.01 * uniform_float(noise.v[0]));
    }
    controller.update(samples, rewards, 0.05);
  }
  EXPECT_EQ(controller.most_likely().indices(), planted.indices());
  EXPECT_LT(controller.sample(21, 600, 0, {}).entropy,
            0.5 * Controller(space).sample(21, 600, 0, {}).entropy);
}

TEST(ControllerGolden, LogProbabilitiesAndEntropies) {
  const auto values = test::read_golden("unit_values.json")["controller"];
  const auto& uniform = values["uniform_4_decisions"];
  const std::vector<int> options = uniform["choices"];
  const Sample sample =
      Controller(flat_decisions(options)).evaluate({{0, 2, 1, 3}}, Flags(4, 0), {});
  EXPECT_NEAR(sample.log_prob, uniform["sample_log_prob"].get<double>(), 1e-12);
  EXPECT_NEAR(sample.entropy, uniform["entropy"].get<double>(), 1e-12);

  for (const auto& c : values["replacement"]) {
    const double q = c["probability"];
    const Flags replaced(1, c["replaced"].get<bool>() ? 1 : 0);
    const Controller controller(flat_decisions({c["choices"].get<int>()}));
    EXPECT_NEAR(controller.evaluate({{1}}, replaced, {q, q}).log_prob, c["log_prob"].get<double>(),
                1e-12);
  }

  const auto& nested = values["hierarchical"];
  const std::vector<int> inner = nested["inner_choices"];
  const std::vector<PolicyDecision> decisions = {
      {Tag::operation, inner[0], 2, 0},
      {Tag::operation, inner[1], 2, 1},
      {Tag::operation, nested["outer_choices"].get<int>(), kFixed, 0}};
  for (const int outer : {0, 1}) {
    const Arch arch{{0, 0, static_cast<std::int8_t>(outer)}};
    const auto& expected = nested["if_outer_" + std::to_string(outer)];
    const Sample s = Controller(decisions).evaluate(arch, Flags(3, 0), {});
    EXPECT_NEAR(s.log_prob, expected["log_prob"].get<double>(), 1e-12);
    EXPECT_NEAR(s.entropy, expected["entropy"].get<double>(), 1e-12);
    const Controller flat(decisions, {.nesting = Nesting::flat});
    const Sample f = flat.evaluate(arch, Flags(3, 0), {});
    EXPECT_NEAR(f.log_prob, nested["non_hierarchical"]["log_prob"].get<double>(), 1e-12);
    EXPECT_NEAR(f.entropy, nested["non_hierarchical"]["entropy"].get<double>(), 1e-12);
  }
}

TEST(ControllerGolden, GradientExample) {
  const auto example = test::read_golden("unit_values.json")["controller"]["grad_example"];
  const std::vector<double> logits = example["logits"];
  Controller controller = at_logits(flat_decisions({3}), {logits});
  ControllerState state = controller.state();
  state.baseline = {0.95, 0, 1};  // so that the advantage is not 0
  controller.restore(state);
  const Arch arch{{static_cast<std::int8_t>(example["selected"].get<int>())}};
  const std::vector<Sample> samples = {controller.evaluate(arch, {0}, {})};
  const std::vector<double> rewards = {1};
  const double advantage = 1 - controller.update(samples, rewards, 0).baseline;
  for (std::size_t i = 0; i < 3; ++i) {
    const double g = std::sqrt(controller.state().mean_squares[0][i] / 0.001);
    EXPECT_NEAR(g, std::abs(advantage * example["dlogp_dlogits"][i].get<double>()), 1e-6);
  }
}

TEST(ControllerGolden, AdamTrace) {
  const auto trace = test::read_golden("unit_values.json")["controller_adam_trace"];
  const AdamVariant adam{trace["beta2"], trace["epsilon"]};
  double variable = 0, v = 0;
  std::int64_t t = 0;
  for (const auto& step : trace["steps"]) {
    double mean = 0, mean_square = 0;
    const std::vector<double> gradients = step["replica_grads"];
    for (const double g : gradients) {
      mean += g / static_cast<double>(gradients.size());
      mean_square += g * g / static_cast<double>(gradients.size());
    }
    variable -= trace["lr"].get<double>() * adam.step(mean, mean_square, ++t, v);
    EXPECT_NEAR(v, step["v"].get<double>(), 1e-12);
    EXPECT_NEAR(variable, step["variable"].get<double>(), 1e-12);
  }
}

TEST(ControllerGolden, DebiasedAverage) {
  const auto values = test::read_golden("unit_values.json");
  for (const char* key : {"debiased_moving_average", "debiased_moving_average_095"}) {
    DebiasedAverage average{values[key]["momentum"]};
    for (std::size_t i = 0; i < values[key]["inputs"].size(); ++i) {
      EXPECT_NEAR(average.add(values[key]["inputs"][i]), values[key]["outputs"][i].get<double>(),
                  1e-12);
    }
  }
}

}  // namespace
}  // namespace tunas::search
