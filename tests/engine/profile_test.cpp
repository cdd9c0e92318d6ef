// The profile: each kernel call once, under its pass and layer, forward and backward, at the cost
// that a dry run tallies.
#include "engine/profile.h"

#include <gtest/gtest.h>

#include "engine/layers.h"
#include "engine/ops/conv.h"
#include "engine/ops/image.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/pool.h"
#include "engine/ops/softmax_xent.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::engine {
namespace {

constexpr int kImages = 4, kResolution = 16, kClasses = 8;

class ProfileTest : public testing::Test {
 protected:
  ProfileTest() {
    device_.observe(profile_.observer());
    stem_ = ConvNorm::stem({params_, "stem"}, 3, 16);
    last_ = classifier({params_, "classifier"}, kClasses, 16);
    params_.allocate(device_, 1, 0);
    params_.init(1);
  }

  /// Forward and backward of a network of two named layers and a loss outside of any.
  void pass(Tape& tape) {
    tape.reset(Pass::train);
    Raw x;
    {
      const Range here(tape.stream(), &Observer::pass, "forward");
      {
        const Tape::Layer layer(tape, "stem");
        const Var image = engine::image(tape, host_inputs(batch_.batch, {}), {kResolution, 1});
        const Axis axis = pad_axis(Padding::same, kResolution, 3, 2);
        x = conv(tape, image, {stem_.w, 16, 2, axis, 1, stem_.norm, 0});
        x.act = Act::relu;
      }
      {
        const Tape::Layer layer(tape, "classifier");
        x = pointwise(tape, pool(tape, x), {last_.w, kClasses, last_.bias, {}});
      }
      softmax_xent(tape, x, {kClasses, batch_.batch.labels.data(), 0, loss_, rank_});
    }
    tape.backward();
  }
  void pass() {
    Arena arena(memory_.data(), memory_.size());
    Tape tape(device_.stream(), arena, params_);
    pass(tape);
  }

  std::vector<std::string> seen() const {
    std::vector<std::string> all;
    for (const Profile::Call& call : profile_.calls()) {
      std::string& one = all.emplace_back();
      for (const std::string_view name : {call.pass, call.layer, call.kernel}) {
        one.append(one.empty() ? "" : "|").append(name);
      }
    }
    return all;
  }

  Device device_ = Device::cpu(1);
  Profile profile_{device_.stream()};
  ParamStore params_;
  ConvNorm stem_, last_;
  SyntheticBatch batch_{kImages, kResolution, kClasses};
  std::vector<char> memory_ = std::vector<char>(4 << 20);
  float loss_[kImages];
  std::int32_t rank_[kImages];
};

TEST_F(ProfileTest, EachCallHasItsPassAndLayer) {
  profile_.start();
  pass();
  profile_.stop();
  EXPECT_EQ(seen(),
            (std::vector<std::string>{
                "forward|stem|image", "forward|stem|conv", "forward|stem|norm",
                "forward|classifier|pool", "forward|classifier|pointwise", "forward||softmax_xent",
                "backward|classifier|pointwise_backward", "backward|classifier|pool_backward",
                "backward|stem|norm_backward", "backward|stem|conv_backward"}));
  EXPECT_STREQ(profile_.observer()->pass, "");
  EXPECT_STREQ(profile_.observer()->layer, "");
}

TEST_F(ProfileTest, CostsAreThoseOfADryRun) {
  profile_.start();
  pass();
  profile_.stop();
  Tally tally;
  Arena dry = Arena::dry();
  Tape tape({Kind::dry, &tally}, dry, params_);
  pass(tape);
  Cost sum;
  for (const Profile::Call& call : profile_.calls()) sum += call.cost;
  EXPECT_EQ(static_cast<long>(profile_.calls().size()), tally.calls);
  EXPECT_DOUBLE_EQ(sum.bytes_read, tally.cost.bytes_read);
  EXPECT_DOUBLE_EQ(sum.bytes_written, tally.cost.bytes_written);
  EXPECT_DOUBLE_EQ(sum.flops, tally.cost.flops);
}

TEST_F(ProfileTest, CallsFollowEachOther) {
  profile_.start();
  pass();
  pass();
  profile_.stop();
  double end = 0;
  for (const Profile::Call& call : profile_.calls()) {
    EXPECT_GE(call.begin, end);
    EXPECT_GT(call.seconds, 0);
    end = call.begin + call.seconds;
  }
  EXPECT_STREQ(profile_.clock(), "timers");
  EXPECT_TRUE(profile_.work().empty());
}

TEST_F(ProfileTest, SeesNothingBeforeItStartsNorAfterItStops) {
  pass();
  EXPECT_TRUE(profile_.calls().empty());
  profile_.start();
  profile_.stop();
  pass();
  EXPECT_TRUE(profile_.calls().empty());
}

TEST_F(ProfileTest, SharesAddUp) {
  profile_.start();
  for (int i = 0; i < 3; ++i) pass();
  profile_.stop();
  double seconds = 0;
  for (const Profile::Call& call : profile_.calls()) seconds += call.seconds;
  const std::pair<By, std::size_t> expected[] = {{By::kernel, 10}, {By::layer, 3}, {By::both, 10}};
  for (const auto& [by, count] : expected) {
    const std::vector<Share> all = shares(profile_.calls(), by);
    EXPECT_EQ(all.size(), count);
    double sum = 0;
    long calls = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_LE(all[i].seconds, all[i == 0 ? 0 : i - 1].seconds);
      sum += all[i].seconds;
      calls += all[i].calls;
    }
    EXPECT_NEAR(sum, seconds, 1e-9);
    EXPECT_EQ(calls, 30);
  }
}

}  // namespace
}  // namespace tunas::engine
