// The per-channel part of batch normalisation, forward and backward.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::NormBackward;
using kernels::NormForward;

class Norm : public ::testing::Test {
 protected:
  static constexpr int kChannels = 24;
  static constexpr long kRows = 98;

  Norm() {
    for (double& v : moments_.variance) v = std::abs(v) + 0.1;
    moments_.variance[0] = 0;  // a constant channel
  }

  Generator random_;
  Values gamma_ = random_.tensor(kChannels), beta_ = random_.tensor(kChannels);
  reference::Moments moments_{random_.tensor(kChannels), random_.tensor(kChannels)};
};

TEST_F(Norm, ForwardMatchesTheReference) {
  const reference::Moments before{random_.tensor(kChannels), random_.between(kChannels, 0.5, 2)};
  const Guarded gamma(gamma_), beta(beta_), mean(moments_.mean), variance(moments_.variance),
      inv_std(kChannels), scale(kChannels), shift(kChannels), running_mean(before.mean),
      running_variance(before.variance);
  Cpu cpu;
  NormForward args{kChannels,   kRows,           1e-3f,          gamma.data(), beta.data(),
                   mean.data(), variance.data(), inv_std.data(), scale.data(), shift.data()};
  kernels::norm(cpu.stream(), args);
  const reference::Norm want = reference::norm(gamma_, beta_, moments_, 1e-3);
  expect_close("inv_std", inv_std.values(), want.inv_std);
  expect_close("scale", scale.values(), want.scale);
  expect_close("shift", shift.values(), want.shift);

  args.running_mean = running_mean.data();
  args.running_variance = running_variance.data();
  kernels::norm(cpu.stream(), args);
  const reference::Moments after = reference::running(before, moments_, 0.99, kRows);
  expect_close("running mean", running_mean.values(), after.mean);
  expect_close("running variance", running_variance.values(), after.variance);
}

TEST_F(Norm, BackwardMatchesTheReferenceAndAddsTheWeightGradients) {
  const reference::Norm norm = reference::norm(gamma_, beta_, moments_, 1e-3);
  const Values s1 = random_.tensor(kChannels), s2 = random_.tensor(kChannels);
  const Values dgamma0 = random_.tensor(kChannels), dbeta0 = random_.tensor(kChannels);
  const Guarded mean(moments_.mean), inv_std(norm.inv_std), scale(norm.scale), sum_dz(s1),
      sum_dz_xhat(s2), ca(kChannels), cb(kChannels), cc(kChannels), dgamma(dgamma0), dbeta(dbeta0);
  Cpu cpu;
  kernels::norm_backward(cpu.stream(), {kChannels, kRows, mean.data(), inv_std.data(), scale.data(),
                                        sum_dz.data(), sum_dz_xhat.data(), ca.data(), cb.data(),
                                        cc.data(), dgamma.data(), dbeta.data()});
  const reference::NormGrad want =
      reference::norm_backward(norm, moments_.mean, {{}, s1, s2, {}}, kRows);
  expect_close("ca", ca.values(), want.ca);
  expect_close("cb", cb.values(), want.cb);
  expect_close("cc", cc.values(), want.cc);
  Values dgamma_want = dgamma0, dbeta_want = dbeta0;
  for (int c = 0; c < kChannels; ++c) {
    dgamma_want[c] += s2[c];
    dbeta_want[c] += s1[c];
  }
  expect_close("dgamma", dgamma.values(), dgamma_want);
  expect_close("dbeta", dbeta.values(), dbeta_want);
}

TEST_F(Norm, OneRowHasNoUnbiasedVarianceToDivideBy) {
  const Guarded one(Values{1}), zero(Values{0}), inv_std(1), scale(1), shift(1),
      running_mean(Values{0}), running_variance(Values{1});
  Cpu cpu;
  kernels::norm(cpu.stream(),
                {1, 1, 1e-3f, one.data(), zero.data(), one.data(), zero.data(), inv_std.data(),
                 scale.data(), shift.data(), 0.99f, running_mean.data(), running_variance.data()});
  EXPECT_NEAR(running_variance.data()[0], 0.99, 1e-6);
}

/// The values of one channel of which one is not finite, or whose products are not.
struct Broken {
  const char* what;
  double gamma, beta, mean, variance;
};

TEST_F(Norm, WhatIsNotFiniteIsNotedAndSpoilsTheScale) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Broken all[] = {{"mean", 1, 0, NAN, 1},
                        {"infinite mean", 1, 0, -kInfinity, 1},
                        {"variance", 1, 0, 0, NAN},
                        {"infinite variance, though scale and shift are 0", 1, 0, 0, kInfinity},
                        {"gamma", NAN, 0, 0, 1},
                        {"beta", 1, kInfinity, 0, 1},
                        {"scale, the product", 3e38, 0, 0, 0},
                        {"shift, the product", 1e20, 0, 1e20, 1}};
  Cpu cpu;
  for (const Broken& broken : all) {
    SCOPED_TRACE(broken.what);
    const Guarded gamma(Values{1, broken.gamma}), beta(Values{0, broken.beta}),
        mean(Values{0, broken.mean}), variance(Values{1, broken.variance}), inv_std(2), scale(2),
        shift(2);
    NormForward args{2,           kRows,           1e-3f,          gamma.data(), beta.data(),
                     mean.data(), variance.data(), inv_std.data(), scale.data(), shift.data()};
    std::uint32_t origin = 40;
    args.position = 50;
    args.origin = &origin;
    kernels::norm(cpu.stream(), args);
    EXPECT_EQ(origin, 40u) << "an earlier layer was there before";
    args.position = 30;
    kernels::norm(cpu.stream(), args);
    EXPECT_EQ(origin, 30u);
    EXPECT_TRUE(std::isnan(scale.data()[1]));
    EXPECT_TRUE(std::isfinite(scale.data()[0]));
    args.origin = nullptr;
    EXPECT_NO_THROW(kernels::norm(cpu.stream(), args));
    args.c = 1;  // the channel beside it
    args.origin = &origin;
    args.position = 20;
    kernels::norm(cpu.stream(), args);
    EXPECT_EQ(origin, 30u) << "nothing is wrong there";
  }
}

TEST_F(Norm, RefusesEmptyInput) {
  Cpu cpu;
  EXPECT_THROW(kernels::norm(cpu.stream(), NormForward{0, 1}), Error);
  EXPECT_THROW(kernels::norm(cpu.stream(), NormForward{8, 0}), Error);
  EXPECT_THROW(kernels::norm_backward(cpu.stream(), NormBackward{0, 1}), Error);
}

TEST_F(Norm, DryStreamAddsTheFloor) {
  const NormForward args{kChannels, kRows};
  EXPECT_EQ(dry_cost(args, kernels::norm).bytes(), 7 * 4 * kChannels);
  EXPECT_EQ(dry_cost(NormBackward{kChannels, kRows}, kernels::norm_backward).bytes(),
            12 * 4 * kChannels);
}

}  // namespace
}  // namespace tunas::test
