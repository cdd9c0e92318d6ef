// Evaluations: two networks of other programs, whose scores on the sample of ImageNet were measured
// with PyTorch (README of the shared data), and who is heard when it is said how images are shown.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/data/samples.h"
#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

class EvalTest : public ProgramTest {
 protected:
  Json evaluate(const std::string& photos, const std::string& arguments) const {
    const Result result = run("eval --json --data 'tar:" + photos + "/*.tar' " + arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  }

  static void expect_scores(const Json& scores, int top1, int top5, double loss) {
    EXPECT_EQ(std::lround(scores["top1"].get<double>() * 500), top1);
    EXPECT_EQ(std::lround(scores["top5"].get<double>() * 500), top5);
    EXPECT_NEAR(scores["loss"].get<double>(), loss, 1e-4);
    EXPECT_EQ(scores["count"], 500);
  }
};

TEST_F(EvalTest, MobileNetV2AsMeasured) {
  TUNAS_NEED_SHARED(photos, "imagenet_sample");
  TUNAS_NEED_SHARED(weights, "weights");
  const std::string call = "--arch mobilenet_v2 --weights " + weights +
                           "/mobilenet_v2_1.0_224_tf_ptq_dequant.safetensors";
  const Json same = evaluate(photos, call + " --predictions " + path("predictions"));
  expect_scores(same, 443, 495, 0.5256);
  EXPECT_EQ(same["padding"], "same");
  expect_scores(evaluate(photos, call + " --padding symmetric"), 409, 480, 0.8561);

  int right = 0, count = 0;
  std::istringstream predictions(engine::read_file(path("predictions")));
  for (std::string line; std::getline(predictions, line); ++count) {
    const Json image = Json::parse(line);
    ASSERT_EQ(image["logits"].size(), 1000u);
    ASSERT_EQ(image["key"].get<std::string>()[0], 'n') << "the key in its tar";
    ASSERT_EQ(image["top5"].size(), 5u);
    right += image["top5"][0] == image["label"];
    for (int i = 0; i < 4; ++i) {
      ASSERT_GE(image["logits"][image["top5"][i].get<std::size_t>()],
                image["logits"][image["top5"][i + 1].get<std::size_t>()]);
    }
  }
  EXPECT_EQ(count, 500);
  EXPECT_EQ(right, 443);
}

TEST_F(EvalTest, ProxylessNasAsMeasured) {
  TUNAS_NEED_SHARED(photos, "imagenet_sample");
  TUNAS_NEED_SHARED(weights, "weights");
  const Json scores =
      evaluate(photos, "--arch " + weights + "/proxyless-w0.3-r176_arch.json --weights " + weights +
                           "/proxyless-w0.3-r176_imagenet.safetensors");
  expect_scores(scores, 330, 427, 1.3942);
  EXPECT_EQ(scores["resolution"], 176);
  EXPECT_EQ(scores["preprocess"]["resize"], 201);
}

TEST_F(EvalTest, WhatATrainingShowedIsShownAgainUnlessOptionsSayOtherwise) {
  const std::string data = " --data synthetic:40x30x20 ";
  ASSERT_EQ(run("train --arch mobilenet_v2 --width 0.25 --resolution 16 --preprocess torchvision "
                "--batch-size 4 --steps 1" +
                data + "--out " + path("run"))
                .code,
            0);
  const std::string call = "eval --json --arch " + path("run/arch.json") + " --weights " +
                           path("run/weights.safetensors") + data;
  const auto facts = [&](const std::string& options) {
    const Result result = run(call + options);
    EXPECT_EQ(result.code, 0) << result.err;
    Json scores = Json::parse(result.out);
    EXPECT_NE(result.err.find("batch norm epsilon"), std::string::npos) << "said for people, too";
    return scores;
  };
  const Json usual = facts("");
  EXPECT_EQ(usual["padding"], "same");
  EXPECT_EQ(usual["bn_epsilon"], 1e-3);
  EXPECT_EQ(usual["preprocess"]["resize"], 18);
  EXPECT_EQ(usual["preprocess"]["interpolation"], "bilinear");
  const Json larger = facts("--resolution 32");
  EXPECT_EQ(larger["preprocess"]["resize"], 36) << "the same share of the image";
  const Json other = facts(
      "--resize 0 --interpolation legacy_bicubic --mean 0.5,0.25,0 --std 0.5,1,0.125 "
      "--padding symmetric --bn-eps 1e-5");
  EXPECT_EQ(other["padding"], "symmetric");
  EXPECT_EQ(other["bn_epsilon"], 1e-5);
  EXPECT_EQ(other["preprocess"], Json::parse(R"({"resize": 0, "interpolation": "legacy_bicubic",
                            "mean": [0.5, 0.25, 0.0], "std": [0.5, 1.0, 0.125]})"));
  EXPECT_NE(usual["loss"], other["loss"]);

  expect_refusal(call + "--mean 0.5,0.5", 2, {"--mean", "0.5,0.5", "three numbers"});
  expect_refusal(call + "--std 0.5,0,0.5", 2, {"--std", "three numbers"});
  expect_refusal(call + "--mean 123.7,116,103", 2, {"--mean", "0 to 1"});
  expect_refusal(call + "--resize 8", 2, {"--resize", "8", "16"});
  std::string arch = engine::read_file(path("run/arch.json"));
  arch.replace(arch.find("bilinear"), 8, "lanczos3");
  engine::write_file(path("arch.json"), arch);
  expect_refusal(
      "eval --arch " + path("arch.json") + " --weights " + path("run/weights.safetensors") + data,
      3, {path("arch.json"), "lanczos3", "interpolation"});
}

}  // namespace
}  // namespace tunas::tools
