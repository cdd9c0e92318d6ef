// The masked twin itself, on a network of a few channels: its gradients by central differences,
// its masks against the same network stored at the active widths.
#include "tests/support/masked_twin.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace tunas::test {
namespace {

using search::Layer;
using search::LayerKind;
using search::PlanLayer;

/// One weight of the network: [out][k][k][in], or [k][k][in] and [in] with out = 1.
struct Spec {
  std::string name;
  Width out, in;
  int k;
};

/// Stem with two kernels, separable (shared and not), bottlenecks with squeeze-excite, residuals
/// kept, half kept and skipped, heads with norm and with bias.
class TwinTest : public ::testing::Test {
 protected:
  static constexpr int kImages = 3, kSide = 9, kClasses = 5;

  TwinTest() {
    plan_.classes = kClasses;
    plan_.c_head = {7, 6};
    PlanLayer& stem = add(LayerKind::conv, {4, 4}, {6, 4}, 9, 5, 2);
    stem.kernels = {{0, 3, 0.5}, {1, 5, 0.5}};
    conv_norm("conv_3", stem.c_out, {4, 4}, 3);
    conv_norm("conv_5", stem.c_out, {4, 4}, 5);
    add(LayerKind::activation, {6, 4}, {6, 4}, 5, 5, 1);
    spec().act = Act::hard_swish;

    PlanLayer& shared = add(LayerKind::separable, {6, 4}, {6, 4}, 5, 5, 1);
    shared.kernels = {{0, 3, 0.5}, {2, 7, 0.5}};
    shared.keep = 0.5;
    spec().residual = true;
    for (int k : {3, 7}) conv_norm("depthwise_" + std::to_string(k), {1, 1}, shared.c_in, k);
    conv_norm("project", shared.c_out, shared.c_in, 1);

    PlanLayer& apart = add(LayerKind::separable, {6, 4}, {5, 3}, 5, 5, 1);
    apart.kernels = {{0, 3, 0.5}, {1, 5, 0.5}};
    spec().shared_pointwise = false;
    for (int k : {3, 5}) {
      conv_norm("depthwise_" + std::to_string(k), {1, 1}, apart.c_in, k);
      conv_norm("project_" + std::to_string(k), apart.c_out, apart.c_in, 1);
    }

    bottleneck({5, 3}, {6, 5}, {12, 6}, {5, 2}, 2, 0.5, 1);
    bottleneck({6, 5}, {6, 5}, {9, 7}, {4, 3}, 1, 1, 1);
    bottleneck({6, 5}, {6, 5}, {9, 7}, {4, 3}, 1, 0.5, 0);
    add(LayerKind::endpoint, {6, 5}, {6, 5}, 3, 3, 1);
    conv_norm("conv_1", add(LayerKind::conv, {6, 5}, {9, 8}, 3, 3, 1).c_out, {6, 5}, 1);
    plan_.layers.back().kernels = {{0, 1, 1}};
    add(LayerKind::activation, {9, 8}, {9, 8}, 3, 3, 1);
    spec().act = Act::relu6;
    add(LayerKind::global_pool, {9, 8}, {9, 8}, 3, 1, 1);
    add(LayerKind::conv, {9, 8}, {7, 6}, 1, 1, 1).kernels = {{0, 1, 1}};
    spec().batch_norm = false;
    with_bias(path() + "/conv_1", {7, 6}, {9, 8});
    with_bias("classifier", {kClasses, kClasses}, {7, 6});
    for (const Spec& s : specs_) {
      // Biases above 3 keep every hidden unit of squeeze-excite on the live side of its relu.
      const double low = s.name.ends_with("reduce/bias") ? 3 : -1;
      const long size = long{s.out.max} * s.k * s.k * s.in.max;
      weights_[s.name] = random_.between(size, low, low + 2);
    }
    for (std::size_t i = 3; i < images_.size(); i += 4) images_[i] = 0;
  }

  TwinResult run(const Weights& weights, double decay = 0) const {
    return masked_twin(plan_, weights, images_, labels_, {Padding::same, 1e-3, decay, 0.1});
  }

  Layer& spec() { return layers_.back(); }
  std::string path() const { return "blocks/0/layers/" + std::to_string(plan_.layers.size() - 1); }

  /// References stay valid until the next call.
  PlanLayer& add(LayerKind kind, Width in, Width out, int in_side, int out_side, int stride) {
    layers_.emplace_back();
    spec().kind = kind;
    spec().stride = stride;
    PlanLayer layer;
    layer.layer = static_cast<int>(plan_.layers.size());
    layer.spec = &spec();
    layer.in_resolution = in_side;
    layer.out_resolution = out_side;
    layer.c_in = in;
    layer.c_out = out;
    plan_.layers.push_back(layer);
    return plan_.layers.back();
  }

  void conv_norm(const std::string& name, Width out, Width in, int k) {
    const std::string at = path() + "/" + name;
    const Width channels = out.max == 1 ? in : out;
    specs_.push_back({at + "/kernel", out, in, k});
    specs_.push_back({at + "/norm/gamma", {1, 1}, channels, 1});
    specs_.push_back({at + "/norm/beta", {1, 1}, channels, 1});
  }

  void with_bias(const std::string& at, Width out, Width in) {
    specs_.push_back({at + "/kernel", out, in, 1});
    specs_.push_back({at + "/bias", {1, 1}, out, 1});
  }

  void bottleneck(Width in, Width out, Width exp, Width hidden, int stride, double squeeze,
                  double keep) {
    PlanLayer& layer = add(LayerKind::bottleneck, in, out, stride == 2 ? 5 : 3, 3, stride);
    layer.c_exp = exp;
    layer.c_hidden = hidden;
    layer.kernels = {{1, 5, 1}};
    layer.squeeze_excite = squeeze;
    layer.keep = keep;
    spec().act = Act::hard_swish;
    spec().residual = in == out;
    conv_norm("expand", exp, in, 1);
    conv_norm("depthwise_3", {1, 1}, exp, 3);  // stored, not chosen
    conv_norm("depthwise_5", {1, 1}, exp, 5);
    with_bias(path() + "/squeeze_excite/reduce", hidden, exp);
    with_bias(path() + "/squeeze_excite/expand", exp, hidden);
    conv_norm("project", out, exp, 1);
  }

  /// each(element of a stored weight, inside the prefix)
  template <class Each>
  static void for_elements(const Spec& s, const Each& each) {
    std::size_t i = 0;
    for (int o = 0; o < s.out.max; ++o) {
      for (int tap = 0; tap < s.k * s.k; ++tap) {
        for (int c = 0; c < s.in.max; ++c) each(i++, o < s.out.now && c < s.in.now);
      }
    }
  }

  std::deque<Layer> layers_;  // PlanLayer::spec points into it
  search::Plan plan_;
  std::vector<Spec> specs_;
  Generator random_;
  Weights weights_;
  Values images_ = random_.between(kImages * kSide * kSide * 4, -2, 2);
  std::vector<std::int32_t> labels_{4, 0, 2};
};

// Along three random directions of each weight. Some gradients are zero: those of the skipped
// bottleneck's 16 weights, of depthwise_3 in the two that run, and of four shifts which the batch
// statistics of the next convolution take out again.
TEST_F(TwinTest, GradientsMatchCentralDifferences) {
  const TwinResult result = run(weights_);
  ASSERT_EQ(result.gradients.size(), specs_.size());
  int zero = 0;
  for (const Spec& s : specs_) {
    const Values& gradient = result.gradients.at(s.name);
    if (dot(gradient, gradient) < 1e-24) {
      ++zero;
      continue;
    }
    Values directions[3], slopes;
    for (Values& direction : directions) {
      direction = random_.between(static_cast<long>(gradient.size()), 0, 1);
      slopes.push_back(dot(direction, gradient));
    }
    expect_gradient(
        s.name.c_str(),
        [&](const Values& at) {
          Weights weights = weights_;
          Values& moved = weights.at(s.name);
          for (int d = 0; d < 3; ++d) {
            for (std::size_t i = 0; i < moved.size(); ++i) {
              moved[i] += at[d] * directions[d][i];
            }
          }
          return run(weights).loss;
        },
        {0, 0, 0}, slopes);
  }
  EXPECT_EQ(zero, 16 + 2 * 3 + 4);
}

TEST_F(TwinTest, NothingBeyondThePrefixMatters) {
  const TwinResult result = run(weights_, 1e-2);
  Weights other = weights_;
  for (const Spec& s : specs_) {
    for_elements(s, [&](std::size_t i, bool active) {
      if (active) return;
      EXPECT_EQ(result.gradients.at(s.name)[i], 0) << s.name << " element " << i;
      other.at(s.name)[i] = 1000 + static_cast<double>(i);
    });
  }
  const TwinResult again = run(other, 1e-2);
  EXPECT_EQ(again.loss, result.loss);
  EXPECT_EQ(again.logits, result.logits);
  EXPECT_EQ(again.gradients, result.gradients);
}

TEST_F(TwinTest, EqualsTheNetworkStoredAtTheActiveWidths) {
  const TwinResult masked = run(weights_, 1e-2);
  Weights cut;
  Results gradients;
  for (const Spec& s : specs_) {
    Values inner;
    for_elements(s, [&](std::size_t i, bool active) {
      if (!active) return;
      cut[s.name].push_back(weights_.at(s.name)[i]);
      inner.push_back(masked.gradients.at(s.name)[i]);
    });
    gradients.push_back({s.name, inner});
  }
  plan_.c_head.max = plan_.c_head.now;
  for (PlanLayer& layer : plan_.layers) {
    for (Width* width : {&layer.c_in, &layer.c_exp, &layer.c_hidden, &layer.c_out}) {
      width->max = width->now;
    }
  }
  const TwinResult alone = run(cut, 1e-2);
  expect_close("logits", alone.logits, masked.logits, 1e-12);
  for (const Named& named : gradients) {
    expect_close(named.name.c_str(), alone.gradients.at(named.name), named.values, 1e-10);
  }
}

TEST_F(TwinTest, WeightDecayFollowsTheMasks) {
  const double decay = 0.25;
  const TwinResult with = run(weights_, decay), without = run(weights_);
  EXPECT_EQ(with.loss, without.loss) << "L2 is in the gradients alone";
  const auto share = [&](const std::string& name) {
    for (const Spec& s : specs_) {
      if (s.name != name) continue;
      return (with.gradients.at(name)[0] - without.gradients.at(name)[0]) /
             (decay * weights_.at(name)[0]);
    }
    throw std::out_of_range(name);
  };
  const std::string at = "blocks/0/layers/";
  EXPECT_NEAR(share(at + "0/conv_5/kernel"), 0.5, 1e-9);        // one of two kernels
  EXPECT_NEAR(share(at + "2/depthwise_7/kernel"), 0.25, 1e-9);  // of two, half kept
  EXPECT_NEAR(share(at + "2/project/kernel"), 0.5, 1e-9);       // half kept
  EXPECT_NEAR(share(at + "3/project_5/kernel"), 0.5, 1e-9);     // one of two layers
  EXPECT_NEAR(share(at + "4/expand/kernel"), 1, 1e-9);
  EXPECT_NEAR(share(at + "4/squeeze_excite/reduce/kernel"), 0.5, 1e-9);  // half on
  EXPECT_NEAR(share(at + "5/squeeze_excite/expand/kernel"), 1, 1e-9);
  for (const char* none : {"4/expand/norm/gamma", "4/squeeze_excite/reduce/bias", "6/expand/kernel",
                           "5/depthwise_3/kernel"}) {
    EXPECT_EQ(share(at + none), 0) << none;
  }
  EXPECT_EQ(share("classifier/kernel"), 0);
}

TEST_F(TwinTest, NamesTheWeightThatIsMissing) {
  Weights weights = weights_;
  weights.erase("classifier/bias");
  EXPECT_THROW(run(weights), std::out_of_range);
  weights["classifier/bias"] = Values(3, 0.0);
  EXPECT_THROW(run(weights), std::invalid_argument);
}

}  // namespace
}  // namespace tunas::test
