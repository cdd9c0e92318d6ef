// Crops: the evaluation crop by its formula, random crops against TensorFlow's distribution (golden
// file) and their own rules.
#include "data/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace tunas::data {
namespace {

TEST(CentralCrop, IsTheFormula) {
  EXPECT_EQ(central_crop({224, 224}), (Region{14, 14, 196, 196}));
  EXPECT_EQ(central_crop({375, 500}), (Region{24, 86, 328, 328}));
  EXPECT_EQ(central_crop({28, 28}), (Region{2, 2, 24, 24}));
  EXPECT_EQ(central_crop({9, 8}), (Region{1, 1, 7, 7}));
  EXPECT_EQ(central_crop({1, 1}), (Region{0, 0, 1, 1}));
}

TEST(RandomCrop, StaysInTheImageAndKeepsItsRules) {
  const CropRule rule;
  for (const Size image : {Size{1, 1}, {2, 9}, {28, 28}, {500, 375}, {60, 4000}, {3000, 3001}}) {
    int found = 0;
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const auto crop = try_crop(image, rule, philox({2, Purpose::test, 0, 0}, i));
      if (!crop) continue;
      ++found;
      ASSERT_TRUE(crop->y >= 0 && crop->x >= 0 && crop->h > 0 && crop->w > 0);
      ASSERT_LE(crop->y + crop->h, image.h);
      ASSERT_LE(crop->x + crop->w, image.w);
      ASSERT_GE(static_cast<double>(crop->h) * crop->w / image.h / image.w, 0.1 - 1e-6);
      const double aspect = static_cast<double>(crop->w) / crop->h, slack = 0.5 / crop->h;
      ASSERT_TRUE(aspect > 0.75 - slack - 1e-6 && aspect < 4 / 3.0 + slack + 1e-6) << aspect;
    }
    EXPECT_EQ(found > 0, image.w != 4000) << image.h;  // 60 x 80 is 2 % of 60 x 4000
  }
}

TEST(RandomCrop, ExtremeDrawsAreInside) {
  for (const std::uint32_t a : {0u, ~0u}) {
    for (const std::uint32_t h : {0u, ~0u}) {
      for (const std::uint32_t offset : {0u, ~0u}) {
        for (const Size image : {Size{3, 3}, {32, 32}, {224, 300}, {300, 224}}) {
          const auto crop = try_crop(image, {}, {{a, h, offset, offset}});
          if (!crop) continue;
          EXPECT_LE(crop->y + crop->h, image.h);
          EXPECT_LE(crop->x + crop->w, image.w);
        }
      }
    }
  }
}

TEST(EvaluationView, IsTorchvisionsResizeAndCentreCrop) {
  Preprocess preprocess;
  EXPECT_EQ(evaluation_view({375, 500}, preprocess, 224).region, central_crop({375, 500}));
  preprocess.resize = 256;
  preprocess.resample = Resample::bilinear;
  // 375 x 500 becomes 256 x int(341.33); (341 - 224)/2 = 58.5 goes to the even 58.
  const View view = evaluation_view({375, 500}, preprocess, 224);
  EXPECT_EQ(view.y.size, 256);
  EXPECT_EQ(view.x.size, 341);
  EXPECT_EQ(view.y.shows, 16);
  EXPECT_EQ(view.x.shows, 58);
  // Row 16 has its centre at 16.5*375/256 = 24.17, its filter reaches 1.46 on both sides.
  EXPECT_EQ(view.region.y, 23);
  EXPECT_EQ(view.y.begin, 23);
  EXPECT_EQ(view.region.y + view.region.h, 352);
  // Enlarged, and at the edges of the image.
  preprocess.resize = 64;
  EXPECT_EQ(evaluation_view({8, 5}, preprocess, 64).region, (Region{1, 0, 6, 5}));
  EXPECT_THROW(evaluation_view({8, 5}, preprocess, 65), Error);
  EXPECT_THROW(evaluation_view({1, 9'000'000}, preprocess, 64), Error);
}

// Against what RandomResizedCrop.get_params says of itself: the area is uniform, and so is the
// logarithm of the aspect, where neither is cut off by the image.
TEST(RandomView, TorchvisionsLaw) {
  CropRule rule;
  rule.law = CropLaw::torchvision;
  rule.max_area = 0.5;
  const Size image = {500, 400};
  double area = 0, aspect = 0, small = 0, tall = 0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const Region crop = random_view(image, rule, {3, 0, i}).region;
    ASSERT_TRUE(crop.y >= 0 && crop.y + crop.h <= 500 && crop.x >= 0 && crop.x + crop.w <= 400);
    const double share = 1.0 * crop.h * crop.w / (500 * 400), ratio = 1.0 * crop.w / crop.h;
    area += share;
    aspect += std::log(ratio);
    small += share < (0.08 + 0.5) / 2;
    tall += ratio < 1;
  }
  EXPECT_NEAR(area / kDraws, (0.08 + 0.5) / 2, 0.003);
  EXPECT_NEAR(small / kDraws, 0.5, 0.015);
  EXPECT_NEAR(aspect / kDraws, 0, 0.004);
  EXPECT_NEAR(tall / kDraws, 0.5, 0.015);
  // A strip has the largest central crop of aspect 4/3 or 3/4.
  EXPECT_EQ(random_view({60, 4000}, rule, {1, 0, 0}).region, (Region{0, 1960, 60, 80}));
  EXPECT_EQ(random_view({4000, 60}, rule, {1, 0, 0}).region, (Region{1960, 0, 80, 60}));
}

TEST(RandomView, FallsBackToTheCentre) {
  // No crop fits a strip; the only crop of one pixel is the whole image.
  EXPECT_EQ(random_view({60, 4000}, {}, {1, 0, 0}).region, central_crop({60, 4000}));
  EXPECT_EQ(random_view({1, 1}, {}, {1, 0, 0}).region, (Region{0, 0, 1, 1}));
  CropRule whole;
  whole.min_area = whole.max_area = whole.min_aspect = whole.max_aspect = 1;
  EXPECT_EQ(random_view({100, 100}, whole, {1, 0, 0}).region, central_crop({100, 100}));
  CropRule none;
  none.attempts = 0;
  EXPECT_EQ(random_view({100, 100}, none, {1, 0, 0}).region, central_crop({100, 100}));
}

TEST(RandomView, IsAFunctionOfSeedEpochAndSample) {
  const AugmentKey key = {5, 6, 7};
  const auto differs = [&](const AugmentKey& other) {
    return random_view({375, 500}, {}, key).region != random_view({375, 500}, {}, other).region;
  };
  EXPECT_FALSE(differs(key));
  EXPECT_TRUE(differs({6, 6, 7}));
  EXPECT_TRUE(differs({5, 7, 7}));
  EXPECT_TRUE(differs({5, 6, 8}));
}

TEST(RandomView, FlipsHalfOfThem) {
  int flips = 0;
  for (std::int64_t i = 0; i < 4000; ++i) flips += random_view({64, 64}, {}, {1, 2, i}).flip;
  EXPECT_NEAR(flips, 2000, 5 * std::sqrt(1000));
}

TEST(RandomView, RefusesRulesThatMakeNoSense) {
  CropRule rule;
  rule.min_area = 0;
  EXPECT_THROW(check_rule(rule), Error);
  rule.min_area = 1.5f;
  EXPECT_THROW(check_rule(rule), Error);
  check_rule({});
}

struct Draws {
  std::vector<double> y, x, h, w, area, aspect;
};

/// Mean, spread and quantiles within five standard errors of what TensorFlow drew; both sides are
/// samples, so errors add.
void expect_distribution(const char* name, std::vector<double> ours, const nlohmann::json& golden,
                         double draws) {
  const double n = static_cast<double>(ours.size());
  double mean = 0, square = 0;
  for (double v : ours) mean += v / n;
  for (double v : ours) square += (v - mean) * (v - mean) / n;
  const double deviation = golden["std"], error = deviation * std::sqrt(1 / n + 1 / draws);
  EXPECT_NEAR(mean, golden["mean"], 5 * error) << name;
  EXPECT_NEAR(std::sqrt(square), deviation, 5 * error) << name;
  // A quantile q is right if the share of ours at or below it brackets its probability.
  const double shares[] = {0.05, 0.25, 0.5, 0.75, 0.95};
  for (int i = 0; i < 5; ++i) {
    const double at = golden["quantiles"][i], slack = 1e-5 * (1 + std::abs(at));
    const auto below = [&](double limit) {
      return static_cast<double>(
                 std::count_if(ours.begin(), ours.end(), [&](double v) { return v < limit; })) /
             n;
    };
    const double tolerance = 5 * std::sqrt(shares[i] * (1 - shares[i]) * (1 / n + 1 / draws));
    EXPECT_LE(below(at - slack), shares[i] + tolerance) << name << " quantile " << shares[i];
    EXPECT_GE(below(at + slack), shares[i] - tolerance) << name << " quantile " << shares[i];
  }
}

TEST(RandomCrop, HasTensorFlowsDistribution) {
  std::ifstream in(std::string(TUNAS_SOURCE_DIR) + "/tests/golden/tensorflow.json");
  ASSERT_TRUE(in);
  const auto cases = nlohmann::json::parse(in)["sample_distorted_bounding_box"];
  ASSERT_GE(cases.size(), 3u);
  for (const auto& golden : cases) {
    const Size image = {golden["height"], golden["width"]};
    SCOPED_TRACE(std::to_string(image.h) + "x" + std::to_string(image.w));
    constexpr int kDraws = 40000;
    Draws ours;
    double whole = 0;
    int bottom = 0, right = 0;
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      for (std::uint32_t attempt = 0;; ++attempt) {
        ASSERT_LT(attempt, 10u);
        const auto crop = try_crop(image, {}, philox({8, Purpose::test, 0, attempt}, i));
        if (!crop) continue;
        if (crop->h == image.h && crop->w == image.w) {
          ++whole;
          break;
        }
        const double h = crop->h, w = crop->w;
        ours.y.push_back(crop->y);
        ours.x.push_back(crop->x);
        ours.h.push_back(h);
        ours.w.push_back(w);
        ours.area.push_back(h * w / (image.h * image.w));
        ours.aspect.push_back(w / h);
        bottom = std::max(bottom, crop->y + crop->h);
        right = std::max(right, crop->x + crop->w);
        break;
      }
    }
    const auto& crops = golden["crops"];
    const double draws = golden["draws"].get<double>();
    expect_distribution("y", ours.y, crops["y"], draws);
    expect_distribution("x", ours.x, crops["x"], draws);
    expect_distribution("h", ours.h, crops["h"], draws);
    expect_distribution("w", ours.w, crops["w"], draws);
    expect_distribution("area", ours.area, crops["area"], draws);
    expect_distribution("aspect", ours.aspect, crops["aspect"], draws);
    const double share = golden["whole_image"].get<double>() / draws;
    EXPECT_NEAR(whole / kDraws, share, 5 * std::sqrt((share + 1 / draws) / draws) + 1e-9);
    EXPECT_EQ(bottom, crops["max_y_plus_h"]);
    EXPECT_EQ(right, crops["max_x_plus_w"]);
  }
}

}  // namespace
}  // namespace tunas::data
