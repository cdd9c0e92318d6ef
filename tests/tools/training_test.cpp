// Trainings by recipe, and latency tables, by the program: what a recipe says, what averages and
// running statistics do, and that no output costs what was there before.
#include <gtest/gtest.h>

#include "engine/safetensors.h"
#include "tests/tools/runs.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;

class TrainingTest : public RunsTest {};

// The running averages are those of the last steps, also where there are few (recipes.h).
TEST_F(TrainingTest, RunningAveragesRememberAsTold) {
  const auto variance = [&](const std::string& name, const std::string& options) {
    const Result train =
        run("train --arch mobilenet_v3_large --width 0.25 --resolution 16 --small-images "
            "--data synthetic:24x24x40 --batch-size 4 --steps 1 " +
            options + " --out " + path(name));
    EXPECT_EQ(train.code, 0) << train.err;
    const engine::Safetensors weights(path(name + "/weights.safetensors"));
    std::vector<float> values(8);
    weights.read("blocks/0/layers/2/project/norm/variance", "F32", {8}, values.data());
    return values;
  };
  const std::vector<float> all = variance("all", "--bn-momentum 0");
  const std::vector<float> few = variance("few", "");
  EXPECT_EQ(variance("none", "--bn-momentum 1"), std::vector<float>(8, 1.0f));
  for (int c = 0; c < 8; ++c) EXPECT_NEAR(few[c], 0.9f + 0.1f * all[c], 1e-5f);
  const Json config = Json::parse(text("few/config.json"));
  EXPECT_EQ(config["bn_momentum"], Json({{"value", 0.9}, {"from", "recipe small"}}));
}

TEST_F(TrainingTest, TrainsAsTorchvisionDoes) {
  const std::string train =
      "train --arch mobilenet_v2 --width 0.25 --resolution 16 --small-images "
      "--data synthetic:24x24x80 --recipe torchvision-sgd --batch-size 16 --shards 2 --steps 9 ";
  const Result result = run(train + "--ema 0.5 --json --out " + path("run"));
  ASSERT_EQ(result.code, 0) << result.err;
  const std::vector<Json> steps = lines("run/metrics.jsonl");
  ASSERT_EQ(steps.size(), 10u);
  // 72 images are 4.5 steps an epoch; the rate is one of 16 images.
  EXPECT_NEAR(steps[4]["lr"], 0.045 / 16, 1e-9);
  EXPECT_NEAR(steps[5]["lr"], 0.045 / 16 * 0.98, 1e-9);
  const Json config = Json::parse(text("run/config.json"));
  EXPECT_EQ(config["optimizer"], Json({{"value", "sgd"}, {"from", "recipe torchvision-sgd"}}));
  EXPECT_EQ(config["weight_decay"]["value"], 4e-5);
  EXPECT_EQ(config["dropout"]["value"], 0.2);
  EXPECT_EQ(Json::parse(text("run/arch.json"))["preprocess"],
            Json::parse(R"({"resize": 18, "interpolation": "bilinear",
                            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})"));
  EXPECT_NE(text("run/weights.safetensors"), text("run/weights_last.safetensors"));
  ASSERT_EQ(run(train + "--out " + path("plain")).code, 0);
  EXPECT_EQ(text("plain/weights.safetensors"), text("run/weights_last.safetensors"))
      << "averages change nothing but what is scored";
  EXPECT_FALSE(fs::exists(path("plain/weights_last.safetensors")));
}

TEST_F(TrainingTest, NothingIsLostToAnOutput) {
  const std::string data = " --data synthetic:24x24x40 ";
  const std::string train =
      "train --arch mobilenet_v2 --width 0.25 --resolution 16 --batch-size 4" + data + "--out " +
      path("run");
  ASSERT_EQ(run(train + " --steps 1 --ema 0.5").code, 0);
  const std::string network =
      " --arch " + path("run/arch.json") + " --weights " + path("run/weights.safetensors");
  const std::string before = text("run/weights.safetensors");
  expect_refusal("eval" + network + data + "--predictions " + path("run/weights.safetensors"), 2,
                 {"--predictions", "--weights", "same file"});
  expect_refusal("export" + network + " --onnx " + path("run/../run/arch.json"), 2,
                 {"--onnx", "--arch"});
  expect_refusal("export" + network + " --onnx " + path("x") + " --safetensors " + path("x"), 2,
                 {"--onnx", "--safetensors"});
  EXPECT_EQ(text("run/weights.safetensors"), before);

  ASSERT_EQ(run(train + " --steps 1 --overwrite").code, 0);
  EXPECT_FALSE(fs::exists(path("run/weights_last.safetensors"))) << "of the run before";
  fs::create_directories(path("photos"));
  engine::write_file(path("photos/a.jpg"), "mine");
  expect_refusal(
      "train --arch mobilenet_v2 --steps 1 --overwrite" + data + "--out " + path("photos"), 2,
      {path("photos"), "no run"});
}

TEST_F(TrainingTest, WeightsThatAreNotFiniteScoreNothing) {
  const std::string data = " --data synthetic:24x24x40 ";
  ASSERT_EQ(run("train --arch mobilenet_v2 --width 0.25 --resolution 16 --batch-size 4 --steps 1" +
                data + "--out " + path("run"))
                .code,
            0);
  std::string weights = text("run/weights.safetensors");
  const std::uint32_t nan = 0x7fc00000;
  weights.replace(weights.size() - 4, 4, reinterpret_cast<const char*>(&nan), 4);
  const std::size_t sum = weights.find("data_xxh64");
  weights.replace(sum, 4, "nosu");  // no checksum that would tell
  engine::write_file(path("nan.safetensors"), weights);
  expect_refusal(
      "eval --arch " + path("run/arch.json") + " --weights " + path("nan.safetensors") + data, 6,
      {path("nan.safetensors"), "finite"});
}

TEST_F(TrainingTest, AnotherRecipeReplacesWhatNobodyChose) {
  const std::string train =
      "train --arch mobilenet_v2 --width 0.25 --resolution 16 --data synthetic:24x24x40 ";
  ASSERT_EQ(run(train + "--batch-size 4 --steps 1 --out " + path("a")).code, 0);
  ASSERT_EQ(
      run("train --config " + path("a/config.json") + " --recipe tunas-90 --out " + path("b")).code,
      0);
  const Json a = Json::parse(text("a/config.json")), b = Json::parse(text("b/config.json"));
  EXPECT_EQ(a["lr"]["value"], 0.3);
  EXPECT_NEAR(b["lr"]["value"], 0.165, 1e-6);
  EXPECT_EQ(b["min_area"]["value"], 0.08);
  EXPECT_EQ(b["batch_size"]["value"], 4) << "that one was chosen";
  ASSERT_EQ(run("train --config " + path("a/config.json") + " --out " + path("c")).code, 0);
  EXPECT_EQ(text("a/weights.safetensors"), text("c/weights.safetensors"));
  expect_refusal(train + "--steps 2 --epochs 2 --out " + path("d"), 2, {"--steps", "--epochs"});
}

TEST_F(TrainingTest, RecipesSayWhatIsPublished) {
  const Result result =
      run("train --arch mobilenet_v3_large --width 0.25 --resolution 16 --data synthetic:8x8x40 "
          "--recipe tunas-360 --batch-size 8 --steps 1 --out " +
          path("run"));
  ASSERT_EQ(result.code, 0) << result.err;
  const Json config = Json::parse(text("run/config.json"));
  EXPECT_EQ(config["weight_decay"]["value"], 3e-5);
  EXPECT_EQ(config["label_smoothing"]["value"], 0.1);
  EXPECT_EQ(config["bn_momentum"]["value"], 0.99);
  EXPECT_EQ(config["warmup"]["value"], 0.025);
  EXPECT_EQ(config["ema"]["value"], 0.0);
  EXPECT_EQ(config["min_area"]["value"], 0.08);
  EXPECT_EQ(run("train --recipe published").code, 2);
}

TEST_F(TrainingTest, ALatencyTableIsMeasuredAndSearchedWith) {
  const std::string measure = "latency measure " + space_flag() + "--resolution 16 --threads 1 ";
  const Result table = run(measure + "--networks 5 --repeats 2 --json -o " + path("table.json"));
  ASSERT_EQ(table.code, 0) << table.err;
  const Json evaluation = Json::parse(table.out);
  EXPECT_EQ(evaluation["networks"], 5);
  EXPECT_GT(evaluation["median_ms"], 0);
  const Json written = Json::parse(text("table.json"));
  EXPECT_EQ(written["evaluation"], evaluation);
  EXPECT_EQ(written["resolution"], 16);
  const Result priced = run("cost " + space_flag() + "--resolution 16 --cost " +
                            path("table.json") + " --indices 0:0:0:0:0:0:0:0:0");
  ASSERT_EQ(priced.code, 0) << priced.err;
  EXPECT_GT(std::stod(priced.out), 0);
  const Result searched =
      run(search_call() + "--cost " + path("table.json") + " --target " +
          std::to_string(std::stod(priced.out)) +
          " --batch-size 8 --shards 2 --steps 2 --threads 1 --out " + path("run"));
  EXPECT_EQ(searched.code, 0) << searched.err;
  expect_refusal(measure + "-o /none/table.json", 3, {"/none/table.json"});
}

}  // namespace
}  // namespace tunas::tools
