// Every op through the tape: gradients of the loss of a network made of that op and a classifier,
// for its input and all its weights, against central differences of the loss itself. Arithmetic is
// float, so the limits are those of differences in float: a missing term or factor is far beyond.
#include <gtest/gtest.h>

#include <functional>

#include "engine/layers.h"
#include "engine/ops/conv.h"
#include "engine/ops/depthwise.h"
#include "engine/ops/dropout.h"
#include "engine/ops/image.h"
#include "engine/ops/mix.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/pool.h"
#include "engine/ops/softmax_xent.h"
#include "engine/ops/squeeze_excite.h"
#include "kernels/philox.h"
#include "tests/support/sources.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::engine {
namespace {

using test::Fusion;
using test::Values;

constexpr int kImages = 3, kSide = 6, kChannels = 8, kClasses = 5;
constexpr float kDecay = 0.125f, kSmoothing = 0.1f, kStep = 1e-2f;
constexpr double kLimit = 5e-3, kDeepLimit = 1e-2;  // deep: gradients near the rounding of a loss

class OpsTest : public testing::Test {
 protected:
  using Op = std::function<Raw(Tape&, const Raw& x)>;

  OpsTest() : x_(kImages * kSide * kSide * kChannels) {
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = draw(0, i);
  }

  /// Compares all gradients of op -> pool -> classifier -> loss. `decayed` is the weight that the
  /// op is told to decay by kDecay, `channels` the width of the op's result.
  void check(int channels, Weight decayed, const Op& op, double limit = kLimit) {
    prepare(channels);
    op_ = op;
    const Values dx = backward();
    if (!dx.empty()) test::expect_close("dx", dx, differences(x_.data(), x_.size()), limit);
    for (const Param& param : params_.params()) {
      float* w = params_.data(param.weight);
      Values expected = differences(w, param.stored());
      if (decayed && param.weight.offset == decayed.offset) {
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += kDecay * w[i];
      }
      const float* dw = params_.grad(param.weight);
      test::expect_close(param.name.c_str(), Values(dw, dw + param.stored()), expected, limit);
    }
  }

  /// An op written in two ways: all gradients agree, but for rounding.
  void check_composition(int channels,
                         const std::function<Raw(Tape&, const Raw& x, Fusion fusion)>& op) {
    prepare(channels);
    test::Results results[2];
    for (const Fusion fusion : {Fusion::fused, Fusion::composed}) {
      op_ = [&op, fusion](Tape& tape, const Raw& x) { return op(tape, x, fusion); };
      test::Results& gradients = results[fusion == Fusion::composed];
      gradients.push_back({"dx", backward()});
      for (const Param& param : params_.params()) {
        const float* dw = params_.grad(param.weight);
        gradients.push_back({param.name, Values(dw, dw + param.stored())});
      }
    }
    test::expect_close(results[0], results[1], 1e-5);
  }

  /// The mean loss; in Pass::train the tape is ready for backward.
  double forward(Pass pass) {
    tape_.reset(pass);
    const Var x = tape_.activation(kImages, kSide, kSide, kChannels);
    std::copy(x_.begin(), x_.end(), tape_.value(x).f32());
    dx_.clear();
    tape_.push([x, dx = &dx_](Tape& t) {
      if (const Tensor grad = t.grad(x)) dx->assign(grad.f32(), grad.f32() + grad.size());
    });
    const Raw y = pool(tape_, op_(tape_, x));
    Pointwise last;
    last.w = classifier_.w;
    last.bias = classifier_.bias;
    last.out = kClasses;
    float loss[kImages];
    std::int32_t rank[kImages];
    const std::int32_t labels[kImages] = {4, 0, 2};
    softmax_xent(tape_, pointwise(tape_, y, last), {kClasses, labels, kSmoothing, loss, rank});
    if (pass == Pass::train && wants_gradients_) {
      params_.begin_shard();
      tape_.backward();
    }
    double sum = 0;
    for (float l : loss) sum += l;
    return sum / kImages;
  }

  static float draw(std::uint32_t stream, std::ptrdiff_t i) {
    const auto at = static_cast<std::uint64_t>(i);
    return 2 * uniform_float(philox({3, Purpose::test, stream, 0}, at).v[0]) - 1;
  }
  const float* all() const { return params_.masters(); }

  Device device_ = Device::cpu(2);
  ParamStore params_;
  Registry at_{params_, "op"};

 private:
  void prepare(int channels) {
    classifier_ = engine::classifier({params_, "classifier"}, kClasses, channels);
    params_.allocate(device_, 1, 0);
    params_.init(7);
    for (const Param& param : params_.params()) {  // nothing at 0 or 1, where mistakes hide
      float* w = params_.data(param.weight);
      for (std::size_t i = 0; i < param.stored(); ++i) w[i] += 0.5f * draw(1, &w[i] - all());
    }
  }

  Values backward() {
    wants_gradients_ = true;
    forward(Pass::train);
    wants_gradients_ = false;
    return dx_;
  }

  Values differences(float* values, std::size_t count) {
    Values result;
    for (std::size_t i = 0; i < count; ++i) {
      const float value = values[i], above = value + kStep, below = value - kStep;
      values[i] = above;
      double change = forward(Pass::train);
      values[i] = below;
      change -= forward(Pass::train);
      values[i] = value;
      result.push_back(change / (static_cast<double>(above) - below));
    }
    return result;
  }

  Memory memory_ = device_.alloc(std::size_t{1} << 20);
  Arena arena_{memory_.data(), memory_.bytes()};
  Tape tape_{device_.stream(), arena_, params_};
  std::vector<float> x_;
  Values dx_;
  Op op_;
  ConvNorm classifier_;
  bool wants_gradients_ = false;
};

Pointwise project(const ConvNorm& layer, int out, Act act) {
  Pointwise op;
  op.w = layer.w;
  op.bias = layer.bias;
  op.norm = layer.norm;
  op.out = out;
  op.act = act;
  return op;
}

Depthwise filtered(const ConvNorm& layer) {
  Depthwise op;
  op.w = layer.w;
  op.norm = layer.norm;
  op.act = Act::sigmoid;
  return op;
}

TEST_F(OpsTest, PointwiseOnAPrefix) {
  const Pointwise op = project(ConvNorm::pointwise(at_, 24, kChannels), 16, Act::hard_swish);
  check(16, {}, [op](Tape& tape, const Raw& x) { return pointwise(tape, x, op); });
  EXPECT_EQ(forward(Pass::train), forward(Pass::search_validation)) << "both use the batch";
}

TEST_F(OpsTest, PointwiseWithBias) {
  Pointwise op = project(ConvNorm::pointwise_bias(at_, 16, kChannels), 16, Act::sigmoid);
  op.decay = kDecay;
  check(16, op.w, [op](Tape& tape, const Raw& x) { return pointwise(tape, x, op); });
}

TEST_F(OpsTest, DepthwiseAfterANormalisedSource) {
  const Pointwise first =
      project(ConvNorm::pointwise(at_.at("a"), 16, kChannels), 16, Act::sigmoid);
  const ConvNorm layer = ConvNorm::depthwise(at_.at("b"), 5, 16);
  Depthwise op;
  op.w = layer.w;
  op.norm = layer.norm;
  op.stride = 2;
  op.act = Act::hard_swish;
  op.decay = kDecay;
  check(16, op.w,
        [=](Tape& tape, const Raw& x) { return depthwise(tape, pointwise(tape, x, first), op); });
}

TEST_F(OpsTest, Conv) {
  const SyntheticBatch data(kImages, kSide, kClasses);
  const ConvNorm layer = ConvNorm::stem(at_, 3, 16);
  Conv op;
  op.w = layer.w;
  op.norm = layer.norm;
  op.out = 16;
  op.stride = 2;
  op.axis = pad_axis(Padding::same, kSide, 3, 2);
  op.border = 1;
  op.decay = kDecay;
  check(16, op.w, [op, batch = &data.batch](Tape& tape, const Raw&) {
    return conv(tape, image(tape, host_inputs(*batch, {}), {kSide, 1}), op);
  });
}

TEST_F(OpsTest, SqueezeExcite) {
  const ConvNorm first = ConvNorm::pointwise(at_.at("a"), 16, kChannels);
  const ConvNorm last = ConvNorm::pointwise(at_.at("z"), 8, 16);
  const SqueezeExciteWeights weights = SqueezeExciteWeights::make(at_.at("gate"), 16, 8);
  engine::SqueezeExcite op;
  op.reduce = weights.reduce.w;
  op.reduce_bias = weights.reduce.bias;
  op.expand = weights.expand.w;
  op.expand_bias = weights.expand.bias;
  op.hidden = 8;
  op.off = 0.25f;
  op.on = 0.75f;
  check(8, {}, [=](Tape& tape, const Raw& x) {
    const Raw y = pointwise(tape, x, project(first, 16, Act::sigmoid));
    return pointwise(tape, squeeze_excite(tape, y, op), project(last, 8, Act::none));
  });
}

TEST_F(OpsTest, MixOfTwoReadersOfOneTensor) {
  const ConvNorm layer = ConvNorm::pointwise(at_, kChannels, kChannels);
  check(kChannels, {}, [=](Tape& tape, const Raw& x) {
    const Raw y = pointwise(tape, x, project(layer, kChannels, Act::sigmoid));
    return Raw(mix(tape, std::vector<Term>{{0.5f, y}, {2.0f, x}}));
  });
}

TEST_F(OpsTest, AnExpansionThatIsNotStored) {
  const ConvNorm expand = ConvNorm::pointwise(at_.at("a"), 24, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, 24);
  const ConvNorm five = ConvNorm::depthwise(at_.at("c"), 5, 24);
  Pointwise first = project(expand, 24, Act::sigmoid);
  first.decay = kDecay;
  first.output = Pointwise::Output::unstored;
  const auto block = [=](Tape& tape, const Raw& x) {
    const Raw wide = pointwise(tape, x, first);
    const Raw a = depthwise(tape, wide, filtered(three)), b = depthwise(tape, wide, filtered(five));
    if (first.output == Pointwise::Output::unstored) {
      EXPECT_FALSE(tape.value(wide.y)) << "two readers, and both make it themselves";
    }
    return Raw(mix(tape, std::vector<Term>{{0.5f, a}, {0.5f, b}}));
  };
  check(24, first.w, block, kDeepLimit);
}

TEST_F(OpsTest, AnExpansionIsWrittenOutForOtherReaders) {
  const ConvNorm expand = ConvNorm::pointwise(at_.at("a"), 16, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, 16);
  Pointwise first = project(expand, 16, Act::sigmoid);
  first.output = Pointwise::Output::unstored;
  check(
      16, {},
      [=](Tape& tape, const Raw& x) {
        const Raw wide = pointwise(tape, x, first);
        const Raw early = depthwise(tape, wide, filtered(three));
        const Raw sum = mix(tape, std::vector<Term>{{1, early}, {1, wide}});
        EXPECT_TRUE(tape.value(wide.y));
        return Raw(
            mix(tape, std::vector<Term>{{1, sum}, {0.5f, depthwise(tape, wide, filtered(three))}}));
      },
      kDeepLimit);
}

TEST_F(OpsTest, ResidualSumsOfAveragesShareTheirGradient) {
  const ConvNorm first = ConvNorm::pointwise(at_.at("a"), kChannels, kChannels);
  const ConvNorm last = ConvNorm::pointwise(at_.at("z"), kChannels, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, kChannels);
  const ConvNorm five = ConvNorm::depthwise(at_.at("c"), 5, kChannels);
  check(kChannels, {}, [=](Tape& tape, const Raw& input) {
    // x has no activation: its gradient begins as that of the sum, while the branches still read
    // it.
    const Raw x = pointwise(tape, input, project(first, kChannels, Act::none));
    const Raw a =
        pointwise(tape, depthwise(tape, x, filtered(three)), project(last, kChannels, Act::none));
    const Raw b = depthwise(tape, x, filtered(five));
    const Raw average = mix(tape, std::vector<Term>{{0.5f, a}, {0.5f, b}});
    return Raw(mix(tape, std::vector<Term>{{1, average}, {1, x}}));
  });
}

/// At this place of the tape, in backward: whether a sum's gradient waits for the next reader of x.
void expect_left(Tape& tape, const Raw& x, Fusion fusion) {
  tape.push([y = x.y, fusion](Tape& t) {
    const Tape::Deferral* left = t.deferral(y);
    EXPECT_EQ(left && left->to == Tape::Deferral::To::next_reader, fusion == Fusion::fused);
  });
}

/// x for a sum to read: itself, or written out, so that the sum's gradient is that of its own Var.
Raw term(Tape& tape, const Raw& x, Fusion fusion) {
  return fusion == Fusion::fused ? x : Raw(mix(tape, std::vector<Term>{{1, x}}));
}

TEST_F(OpsTest, ASumLeavesItsGradientToTheNextReader) {
  const ConvNorm first = ConvNorm::pointwise(at_.at("a"), kChannels, kChannels);
  const ConvNorm second = ConvNorm::pointwise(at_.at("z"), kChannels, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, kChannels);
  check_composition(kChannels, [=](Tape& tape, const Raw& input, Fusion fusion) {
    const Raw x = pointwise(tape, input, project(first, kChannels, Act::sigmoid));
    const Raw x_term = term(tape, x, fusion);
    const Raw a = depthwise(tape, x, filtered(three));
    expect_left(tape, x, fusion);
    const Raw sum = mix(tape, std::vector<Term>{{1, a}, {0.5f, x_term}});
    const Raw y = pointwise(tape, sum, project(first, kChannels, Act::hard_swish));
    const Raw y_term = term(tape, y, fusion);
    const Raw b = pointwise(tape, y, project(second, kChannels, Act::none));
    expect_left(tape, y, fusion);
    return Raw(mix(tape, std::vector<Term>{{0.5f, b}, {1, y_term}}));
  });
}

TEST_F(OpsTest, ASumLeavesThatOfAStemToo) {
  const SyntheticBatch data(kImages, kSide, kClasses);
  const ConvNorm stem = ConvNorm::stem(at_.at("stem"), 3, 8);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, 8);
  const Conv op{stem.w, 8, 2, pad_axis(Padding::same, kSide, 3, 2), 1, stem.norm, kDecay};
  check_composition(8, [=, batch = &data.batch](Tape& tape, const Raw&, Fusion fusion) {
    Raw x = conv(tape, image(tape, host_inputs(*batch, {}), {kSide, 1}), op);
    x.act = Act::hard_swish;
    const Raw x_term = term(tape, x, fusion);
    const Raw a = depthwise(tape, x, filtered(three));
    expect_left(tape, x, fusion);
    return Raw(mix(tape, std::vector<Term>{{1, a}, {1, x_term}}));
  });
}

TEST_F(OpsTest, ASumLeavesThatOfAnExpansionWhichItWroteOut) {
  const ConvNorm expand = ConvNorm::pointwise(at_.at("a"), 16, kChannels);
  const ConvNorm five = ConvNorm::depthwise(at_.at("c"), 5, 16);
  Pointwise wider = project(expand, 16, Act::hard_swish);
  wider.output = Pointwise::Output::unstored;
  check_composition(16, [=](Tape& tape, const Raw& input, Fusion fusion) {
    const Raw x = pointwise(tape, input, wider);
    const Raw x_term = term(tape, x, fusion);
    const Raw a = depthwise(tape, x, filtered(five));
    expect_left(tape, x, fusion);
    return Raw(mix(tape, std::vector<Term>{{1, a}, {0.5f, x_term}}));
  });
}

TEST_F(OpsTest, AReaderThatRanBeforeTheSumLeavesNothingToTake) {
  const ConvNorm first = ConvNorm::pointwise(at_.at("a"), kChannels, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, kChannels);
  check(kChannels, {}, [=](Tape& tape, const Raw& input) {
    const Raw x = pointwise(tape, input, project(first, kChannels, Act::none));
    const Raw half = mix(tape, std::vector<Term>{{0.5f, x}});
    const Raw a = depthwise(tape, x, filtered(three));
    expect_left(tape, x, Fusion::composed);
    return Raw(mix(tape, std::vector<Term>{{1, half}, {1, a}}));
  });
}

TEST_F(OpsTest, WhatNobodyCanTakeIsWrittenOut) {
  const ConvNorm first = ConvNorm::pointwise(at_.at("a"), kChannels, kChannels);
  const ConvNorm three = ConvNorm::depthwise(at_.at("b"), 3, kChannels);
  check_composition(kChannels, [=](Tape& tape, const Raw& input, Fusion fusion) {
    static constexpr PhiloxKey kKey{1, Purpose::test, 0, 0};
    // For dropout ...
    const Raw x = pointwise(tape, input, project(first, kChannels, Act::sigmoid));
    const Raw x_term = term(tape, x, fusion);
    const Raw dropped = dropout(tape, x, 0.4f, &kKey);
    expect_left(tape, x, fusion);
    const Raw sum = mix(tape, std::vector<Term>{{0.5f, dropped}, {2, x_term}});
    // ... for the other term of the same tensor ...
    const Raw y = pointwise(tape, sum, project(first, kChannels, Act::hard_swish));
    const Raw y_term = term(tape, y, fusion);
    const Raw twice = mix(tape, std::vector<Term>{{0.5f, y}, {2, y_term}});
    // ... and for the convolution, where no gradient reaches the other reader.
    const Raw z = pointwise(tape, twice, project(first, kChannels, Act::sigmoid));
    const Raw z_term = term(tape, z, fusion);
    if (fusion == Fusion::fused) depthwise(tape, z, filtered(three));
    expect_left(tape, z, fusion);
    return Raw(mix(tape, std::vector<Term>{{0.5f, z_term}}));
  });
}

TEST_F(OpsTest, DropoutDrawsTheSameMaskInBothDirections) {
  check(kChannels, {}, [](Tape& tape, const Raw& x) {
    static constexpr PhiloxKey kKey{1, Purpose::dropout, 0, 0};
    return dropout(tape, x, 0.4f, &kKey);
  });
  EXPECT_NE(forward(Pass::train), forward(Pass::search_validation))
      << "off where nothing is trained";
}

}  // namespace
}  // namespace tunas::engine
