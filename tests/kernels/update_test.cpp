// Optimizer updates: RMSProp, SGD with momentum, and the addition of gradients.
#include "kernels/update.h"

#include <cmath>
#include <limits>

#include "tests/support/golden.h"
#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"

namespace tunas::test {
namespace {

using kernels::RmsProp;
using kernels::Sgd;

constexpr int kSizes[] = {1, 3, 8, 17, 1000, 16385, 100003};

struct RmsPropMemory {
  Guarded w, ms, mom;

  explicit RmsPropMemory(const reference::RmsPropState& state)
      : w(state.w), ms(state.ms), mom(state.mom) {}
  void step(Stream stream, const Values& gradient, float rate, float scale = 1) {
    const Guarded grad(gradient);
    kernels::rms_prop(stream,
                      {gradient.size(), grad.data(), w.data(), ms.data(), mom.data(), scale, rate});
    expect_same_bits({{"grad", grad.values()}}, {{"grad", Guarded(gradient).values()}});
  }
  Results results() const {
    return {{"w", w.values()}, {"ms", ms.values()}, {"mom", mom.values()}};
  }
};

Results results(const reference::RmsPropState& state) {
  return {{"w", state.w}, {"ms", state.ms}, {"mom", state.mom}};
}

TEST(Update, RmsPropMatchesTheReferenceWithAVaryingRate) {
  Generator random;
  Cpu cpu(2);
  for (int size : kSizes) {
    SCOPED_TRACE(std::to_string(size) + " parameters");
    reference::RmsPropState want{random.between(size, -1, 1), Values(size, 1.0), Values(size, 0.0)};
    RmsPropMemory got(want);
    for (float rate : {0.0f, 0.66f, 1.32f, 2.64f, 2.0f, 0.125f, 0.0f}) {
      Values grad = random.between(size, -2, 2);
      for (double& g : grad) g = random.integer(0, 3) == 0 ? 0 : g;  // unused in this step
      got.step(cpu.stream(), grad, rate, 0.25f);
      for (double& g : grad) g *= 0.25;
      reference::rms_prop(want, grad, rate, 0.9f, 0.9f, 1);
      expect_close(got.results(), results(want));
    }
  }
}

TEST(Update, SgdMatchesTheReference) {
  Generator random;
  Cpu cpu(2);
  for (int size : kSizes) {
    SCOPED_TRACE(std::to_string(size) + " parameters");
    Values w_want = random.between(size, -1, 1), mom_want(size, 0.0);
    const Guarded w(w_want), mom(mom_want);
    for (float rate : {0.5f, 0.1f, 0.0f, 0.02f}) {
      Values gradient = random.between(size, -2, 2);
      const Guarded grad(gradient);
      kernels::sgd(cpu.stream(),
                   {gradient.size(), grad.data(), w.data(), mom.data(), 0.5f, rate, 0.9f, 4e-5f});
      for (double& g : gradient) g *= 0.5;
      reference::sgd(w_want, mom_want, gradient, rate, 0.9f, 4e-5f);
      expect_close("w", w.values(), w_want);
      expect_close("mom", mom.values(), mom_want);
    }
  }
}

TEST(Update, AddIsExact) {
  Generator random(Numbers::integers);
  Cpu cpu(2);
  for (int size : kSizes) {
    Values a = random.tensor(size), b = random.tensor(size);
    const Guarded got(a), other(b);
    kernels::add(cpu.stream(), {a.size(), got.data(), other.data()});
    for (int i = 0; i < size; ++i) a[i] += b[i];
    expect_equal({{"a", got.values()}}, {{"a", a}});
  }
}

TEST(Update, ThreadsDoNotChangeBits) {
  Generator random;
  const int size = 1'000'003;
  const Values start = random.between(size, -1, 1), grad = random.between(size, -2, 2);
  Results want;
  for (int threads : {1, 2, 3}) {
    Cpu cpu(threads);
    RmsPropMemory rms({start, Values(size, 1.0), Values(size, 0.0)});
    rms.step(cpu.stream(), grad, 0.33f, 0.3f);
    rms.step(cpu.stream(), start, 0.77f, 0.3f);
    const Guarded w(start), mom(grad), g(grad), sum(start);
    kernels::sgd(cpu.stream(), {size, g.data(), w.data(), mom.data(), 0.3f, 0.7f, 0.9f, 4e-5f});
    kernels::add(cpu.stream(), {size, sum.data(), g.data()});
    Results got = rms.results();
    got.push_back({"sgd w", w.values()});
    got.push_back({"sgd mom", mom.values()});
    got.push_back({"sum", sum.values()});
    if (threads == 1) want = got;
    expect_same_bits(got, want);
  }
}

TEST(Update, AVerdictCountsWhatIsNotFinite) {
  const int size = 40'000;
  Generator random;
  for (const int threads : {1, 2}) {
    Cpu cpu(threads);
    Values gradient = random.between(size, -1, 1);
    gradient[3] = std::numeric_limits<float>::max();
    kernels::Verdict verdict;
    const auto check = [&] {
      const Guarded g(gradient);
      kernels::finite_check(cpu.stream(), {gradient.size(), g.data(), &verdict});
    };
    check();
    EXPECT_EQ(verdict.not_finite, 0u);
    gradient[0] = NAN;
    check();
    EXPECT_EQ(verdict.not_finite, 1u);
    EXPECT_EQ(verdict.last, 0u);
    for (const int i : {7, 16'383, 16'384, 39'998}) gradient[i] = i % 2 == 0 ? INFINITY : -INFINITY;
    check();
    EXPECT_EQ(verdict.not_finite, 6u) << "added to what was there";
    EXPECT_EQ(verdict.last, 39'998u);
    gradient[39'998] = 0;
    check();
    EXPECT_EQ(verdict.not_finite, 10u);
    EXPECT_EQ(verdict.last, 39'998u) << "the largest that was there";
  }
}

TEST(Update, AfterABadVerdictNothingIsTouched) {
  const std::size_t size = 40'000;
  Generator random;
  Cpu cpu(2);
  const Values start = random.between(static_cast<int>(size), -1, 1);
  for (const std::uint32_t bad : {0u, 1u}) {
    const kernels::Verdict verdict{bad, 7};
    const Guarded g(start), w(start), ms(start), mom(start), v(start), v_mom(start), mean(start),
        shard_mean(start);
    RmsProp rms{size, g.data(), w.data(), ms.data(), mom.data(), 1, 0.1f};
    rms.verdict = &verdict;
    kernels::rms_prop(cpu.stream(), rms);
    Sgd sgd{size, g.data(), v.data(), v_mom.data(), 1, 0.1f, 0.9f, 0.1f};
    sgd.verdict = &verdict;
    kernels::sgd(cpu.stream(), sgd);
    const Guarded twice(random.between(static_cast<int>(size), 2, 3));
    kernels::average(cpu.stream(), {size, twice.data(), mean.data(), 0.5f, &verdict});
    kernels::shard_mean(cpu.stream(), {size, 3, twice.data(), shard_mean.data(), &verdict});
    const Guarded same(start);
    for (const Guarded* array : {&w, &ms, &mom, &v, &v_mom, &mean, &shard_mean}) {
      EXPECT_EQ(array->values() == same.values(), bad > 0);
    }
  }
}

TEST(Update, ShardMeanDivides) {
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    constexpr int kSize = 40'003;
    const Guarded sum(kSize), mean(kSize);
    for (int i = 0; i < kSize; ++i) sum.data()[i] = static_cast<float>(i % 100);
    kernels::shard_mean(cpu.stream(), {kSize, 3, sum.data(), mean.data()});
    for (int i = 0; i < kSize; ++i) {
      ASSERT_EQ(mean.data()[i], static_cast<float>(i % 100) / 3.0f) << i;
    }
  }
}

TEST(Update, AverageFollowsTheValue) {
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    constexpr int kSize = 40'003;
    const Guarded value(kSize), mean(Values(kSize, 2));
    for (int i = 0; i < kSize; ++i) value.data()[i] = static_cast<float>(i % 100);
    for (int step = 0; step < 2; ++step) {
      kernels::average(cpu.stream(), {kSize, value.data(), mean.data(), 0.75f});
    }
    const double kept = 0.75 * 0.75;
    for (int i = 0; i < kSize; ++i) {
      ASSERT_NEAR(mean.data()[i], 2 * kept + i % 100 * (1 - kept), 1e-4) << i;
    }
  }
}

TEST(Update, NothingToDo) {
  Cpu cpu;
  EXPECT_NO_THROW(kernels::rms_prop(cpu.stream(), RmsProp{}));
  EXPECT_NO_THROW(kernels::sgd(cpu.stream(), Sgd{}));
  EXPECT_NO_THROW(kernels::add(cpu.stream(), kernels::Add{}));
  EXPECT_NO_THROW(kernels::finite_check(cpu.stream(), kernels::FiniteCheck{}));
}

TEST(Update, DryStreamAddsTheFloor) {
  RmsProp rms;
  rms.size = 1000;
  Sgd sgd;
  sgd.size = 1000;
  kernels::Add add;
  add.size = 1000;
  EXPECT_EQ(dry_cost(rms, kernels::rms_prop).bytes(), 7 * 4000);
  EXPECT_EQ(dry_cost(sgd, kernels::sgd).bytes(), 5 * 4000);
  EXPECT_EQ(dry_cost(add, kernels::add).bytes(), 3 * 4000);
  kernels::FiniteCheck check;
  check.size = 1000;
  EXPECT_EQ(dry_cost(check, kernels::finite_check).bytes(), 4000);
  kernels::Average average;
  average.size = 1000;
  EXPECT_EQ(dry_cost(average, kernels::average).bytes(), 3 * 4000);
}

TEST(UpdateGolden, RmsPropTrace) {
  const auto trace = read_golden("unit_values.json")["rmsprop_trace"];
  const auto& initial = trace["initial"];
  RmsPropMemory got({{initial["variable"].get<double>()},
                     {initial["mean_square"].get<double>()},
                     {initial["momentum"].get<double>()}});
  Cpu cpu;
  ASSERT_EQ(trace["steps"].size(), 5u);
  for (const auto& step : trace["steps"]) {
    got.step(cpu.stream(), {step["grad"].get<double>()}, trace["lr"].get<float>());
    EXPECT_NEAR(got.ms.data()[0], step["mean_square"].get<double>(), 1e-6);
    EXPECT_NEAR(got.mom.data()[0], step["momentum"].get<double>(), 1e-6);
    EXPECT_NEAR(got.w.data()[0], step["variable"].get<double>(), 1e-6);
  }
}

}  // namespace
}  // namespace tunas::test
