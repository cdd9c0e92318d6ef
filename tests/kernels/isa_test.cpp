// The vector functions of kernels/simd.h against double, for the instruction set in use, through
// the loop that applies them; and the choice of the instruction set.
#include "kernels/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/activation.h"
#include "kernels/error.h"
#include "kernels/pointwise_loops.h"
#include "tests/support/compare.h"

namespace tunas::test {
namespace {

using namespace kernels;
using namespace kernels::cpu;

constexpr Act kActs[] = {Act::none,       Act::relu,    Act::relu6,
                         Act::hard_swish, Act::sigmoid, Act::hard_sigmoid};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// 24 channels: one vector and a half on AVX-512, whole vectors elsewhere.
constexpr int kChannels = 24;

std::vector<float> grid() {
  std::vector<float> x;
  for (float v : {-100.0f, -88.0f, -20.0f, -6.0f, -3.0f, -0.0f, 0.0f, 3.0f, 6.0f, 20.0f, 100.0f}) {
    for (float near : {std::nextafter(v, -200.0f), v, std::nextafter(v, 200.0f)}) x.push_back(near);
  }
  while (x.size() < 200 * kChannels) x.push_back(static_cast<float>(x.size()) * 0.005f - 12.0f);
  return x;
}

std::vector<float> activated(Act act, const std::vector<float>& x) {
  std::vector<float> u(x.size(), kNaN);
  LoadSource load;
  load.rows = static_cast<int>(x.size()) / kChannels;
  load.c = kChannels;
  load.y = x.data();
  load.ldy = kChannels;
  load.act = act;
  load.u = u.data();
  pointwise_loops().load_source(load);
  return u;
}

std::vector<float> derivatives(Act act, const std::vector<float>& x) {
  const std::vector<float> du(x.size(), 1.0f);
  std::vector<float> dz(x.size(), kNaN);
  StoreGrad store;
  store.rows = static_cast<int>(x.size()) / kChannels;
  store.c = kChannels;
  store.du = du.data();
  store.y = x.data();
  store.dz = dz.data();
  store.ld = kChannels;
  store.act = act;
  pointwise_loops().store_grad(store);
  return dz;
}

TEST(Simd, Activations) {
  const std::vector<float> x = grid();
  for (Act act : kActs) {
    SCOPED_TRACE(static_cast<int>(act));
    const std::vector<float> u = activated(act, x);
    const std::vector<float> du = derivatives(act, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double a = activate(act, double{x[i]}), slope = activate_grad(act, double{x[i]});
      // The smallest sigmoids are e^-87: exp saturates before it leaves the normal numbers.
      ASSERT_NEAR(u[i], a, 3e-7 * std::abs(a) + 1e-37) << x[i];
      ASSERT_NEAR(du[i], slope, 4e-7) << x[i];
    }
  }
}

TEST(Simd, ExpIsAccurateToAnUlpOrSo) {
  // sigmoid(-x) = e^-x / (1 + e^-x): beyond 17 it is e^-x to float precision.
  std::vector<float> x;
  for (int i = 0; i < 290 * kChannels; ++i) x.push_back(-17.0f - 0.01f * static_cast<float>(i));
  const std::vector<float> u = activated(Act::sigmoid, x);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = 1 / (1 + std::exp(-double{x[i]}));
    worst = std::max(worst, std::abs(u[i] - want) / want);
  }
  EXPECT_LT(worst, 2.5 * std::numeric_limits<float>::epsilon());
}

TEST(Simd, NaNPassesEveryActivation) {
  const std::vector<float> x(kChannels, kNaN);
  for (Act act : kActs) {
    for (float u : activated(act, x)) EXPECT_TRUE(std::isnan(u)) << static_cast<int>(act);
  }
}

TEST(Isa, EnvironmentLowersTheChoice) {
  EXPECT_EQ(choose_isa(nullptr, Isa::avx512), Isa::avx512);
  EXPECT_EQ(choose_isa("", Isa::avx2), Isa::avx2);
  EXPECT_EQ(choose_isa("base", Isa::avx512), Isa::base);
  EXPECT_EQ(choose_isa("avx2", Isa::avx512), Isa::avx2);
  EXPECT_EQ(choose_isa("avx2", Isa::avx2), Isa::avx2);
}

TEST(Isa, RefusesWhatIsNotThere) {
  EXPECT_THROW(choose_isa("avx512", Isa::avx2), Error);
  EXPECT_THROW(choose_isa("sse9", Isa::avx512), Error);
}

TEST(Isa, NamesAreWhatTheEnvironmentTakes) {
  for (Isa isa : {Isa::base, Isa::avx2, Isa::avx512}) {
    EXPECT_EQ(choose_isa(name(isa), Isa::avx512), isa);
  }
}

}  // namespace
}  // namespace tunas::test
