#include "engine/schedule.h"

#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace tunas::engine {
namespace {

TEST(Schedule, CosineWarmsUpPeaksAndEndsAtZero) {
  const Cosine curve{.peak = 2, .warmup = 4, .steps = 12};
  EXPECT_EQ(curve.at(0), 0);
  EXPECT_EQ(curve.at(1), 0.5);
  EXPECT_EQ(curve.at(4), 2);
  EXPECT_NEAR(curve.at(8), 1, 1e-15);
  EXPECT_EQ(curve.at(12), 0);
  EXPECT_EQ(curve.at(1000), 0);
}

TEST(Schedule, CosineWithoutWarmupStartsAtThePeak) {
  EXPECT_EQ((Cosine{.peak = 3, .warmup = 0, .steps = 10}.at(0)), 3);
}

TEST(Schedule, LengthZeroMeansNoWarmup) {
  EXPECT_EQ(linear_warmup(0, 0), 1);
  EXPECT_EQ(linear_decay(0, 0), 0);
}

TEST(Schedule, StaircaseFallsOnceAnEpoch) {
  const Staircase rate = {2, 0.5, 2.5};  // epochs end within a step
  const double want[] = {2, 2, 2, 1, 1, 0.5, 0.5, 0.5, 0.25};
  for (int step = 0; step < 9; ++step) EXPECT_EQ(rate.at(step), want[step]) << step;
}

TEST(Schedule, ExponentialIsZeroThenGrowsTenfold) {
  const DelayedExponential curve{.base = 0.5, .delay = 10, .steps = 30};
  EXPECT_EQ(curve.at(9), 0);
  EXPECT_EQ(curve.at(10), 0.5);
  EXPECT_NEAR(curve.at(20), 0.5 * 3.1622776601683795, 1e-12);
  EXPECT_NEAR(curve.at(30), 5, 1e-12);
  // A delay as long as the run must not divide by zero.
  EXPECT_EQ((DelayedExponential{.base = 1, .delay = 5, .steps = 5}.at(5)), 1);
}

TEST(ScheduleGolden, CurvesAtGivenSteps) {
  const auto values = test::read_golden("unit_values.json");
  for (const auto& curve : values["cosine_with_warmup"]) {
    const Cosine cosine{curve["peak"], curve["warmup"], curve["max"]};
    for (std::size_t i = 0; i < curve["steps"].size(); ++i) {
      EXPECT_NEAR(cosine.at(curve["steps"][i]), curve["values"][i].get<double>(), 1e-12);
    }
  }
  const auto& up = values["linear_warmup"];
  for (std::size_t i = 0; i < up["steps"].size(); ++i) {
    EXPECT_NEAR(linear_warmup(up["steps"][i], up["warmup"]), up["values"][i].get<double>(), 1e-12);
  }
  EXPECT_EQ(linear_warmup(3, 0), up["zero_warmup_value_at_any_step"].get<double>());
  const auto& down = values["linear_decay"];
  for (std::size_t i = 0; i < down["steps"].size(); ++i) {
    EXPECT_NEAR(linear_decay(down["steps"][i], down["decay"]), down["values"][i].get<double>(),
                1e-12);
  }
}

TEST(ScheduleGolden, DefaultSearch) {
  const auto values = test::read_golden("unit_values.json")["default_search_schedule"];
  const std::int64_t batch = values["batch"];
  const std::int64_t steps = step_count(values["train_examples"], values["epochs"], batch);
  EXPECT_EQ(steps, values["max_step"].get<std::int64_t>());
  const std::int64_t delay = share_of(0.25, steps);
  EXPECT_EQ(delay, values["rl_delay_steps"].get<std::int64_t>());
  EXPECT_EQ(delay, values["op_warmup_steps"].get<std::int64_t>());
  const Cosine weights{weight_peak_rate(batch), share_of(0.025, steps), steps};
  EXPECT_EQ(weights.warmup, values["weight_warmup_steps"].get<std::int64_t>());
  EXPECT_NEAR(weights.peak, values["weight_lr_peak"].get<double>(), 1e-12);
  const DelayedExponential policy{controller_base_rate(batch), delay, steps};
  for (const auto& sample : values["samples"]) {
    const std::int64_t step = sample["step"];
    EXPECT_NEAR(weights.at(step), sample["weight_lr"].get<double>(), 1e-9) << step;
    EXPECT_NEAR(policy.at(step), sample["rl_lr"].get<double>(), 1e-9) << step;
    EXPECT_NEAR(linear_decay(step, delay), sample["increase_ops_prob"].get<double>(), 1e-9);
    EXPECT_NEAR(linear_decay(step, delay), sample["increase_filters_prob"].get<double>(), 1e-9);
  }
}

TEST(ScheduleGolden, StandaloneSteps) {
  const auto values = test::read_golden("unit_values.json")["standalone_steps"];
  const auto check = [&](const char* key, std::int64_t examples, double epochs) {
    const std::int64_t steps = step_count(examples, epochs, 4096);
    if (values[key].is_object()) {
      EXPECT_EQ(steps, values[key]["max_step"].get<std::int64_t>()) << key;
      EXPECT_EQ(share_of(0.025, steps), values[key]["warmup"].get<std::int64_t>()) << key;
    } else {
      EXPECT_EQ(steps, values[key].get<std::int64_t>()) << key;
    }
  };
  check("l2l_train_90_epochs", 1231121, 90);
  check("l2l_train_360_epochs", 1231121, 360);
  check("full_train_90_epochs", 1281167, 90);
  check("full_train_360_epochs", 1281167, 360);
}

}  // namespace
}  // namespace tunas::engine
