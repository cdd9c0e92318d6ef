// Searches, trainings and evaluations by the program, on noise: what they refuse, what they leave
// in the run folder, how they end early, and that nothing depends on the number of threads.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "engine/device.h"
#include "engine/safetensors.h"
#include "tests/data/samples.h"
#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kSpace =
    std::string("--space ") + TUNAS_SOURCE_DIR + "/tests/search/spaces/tiny.json ";
const std::string kSearch = "search " + kSpace + "--data synthetic:24x24x200 --resolution 16 ";
const std::string kFast =
    "--cost macs --target 2e5 --batch-size 8 --shards 2 --steps 4 --threads 1 ";

class RunsTest : public ProgramTest {
 protected:
  std::string text(const std::string& name) const { return engine::read_file(path(name)); }

  /// The objects of a JSON-lines file; every line must be whole.
  std::vector<Json> lines(const std::string& name) const {
    std::istringstream file(text(name));
    std::vector<Json> objects;
    for (std::string line; std::getline(file, line);) objects.push_back(Json::parse(line));
    return objects;
  }

  pid_t start_long_search(const std::string& options = "") const;
};

TEST_F(RunsTest, MistakesAreRefusedBeforeAnythingStarts) {
  const std::string out = "--out " + path("run");
  expect_refusal(kSearch + kFast, 2, {"--out"});
  expect_refusal("search --data synthetic:8x8x9 " + out, 2, {"--space SPACE"});
  expect_refusal("search " + kSpace + out, 2, {"--data SPEC"});
  expect_refusal(kSearch + "--shards 2 --batch-size 9 --target 2 " + out, 2, {"9", "2 equal"});
  expect_refusal(kSearch + "--cost macs " + out, 2, {"--target", "multiply-adds"});
  expect_refusal(kSearch + kFast + "--op-warmup 0.5 --delay-fraction 0.1 " + out, 2, {"warm-up"});
  expect_refusal(kSearch + kFast + "--holdout 0 " + out, 2, {"--holdout"});
  if (std::string why; engine::Device::gpus(why) == 0) {
    expect_refusal(kSearch + kFast + "--device cuda " + out, 2,
                   {"--device cuda: ", why, "--device cpu"});
  }
  expect_refusal(kSearch + kFast + "--cost pixel1 " + out, 2, {"tiny", "--cost macs"});
  expect_refusal("search " + kSpace + "--data fashion-mnist:/none " + out, 3, {"/none"});
  expect_refusal("search " + kSpace + "--data tar:/none-*.tar " + out, 3, {"/none-*.tar"});
  expect_refusal("search " + kSpace + "--data imagenet " + out, 2, {"imagenet"});
  expect_refusal("train --arch mobilenet_v9 --data synthetic:8x8x9 " + out, 2, {"mobilenet_v2"});
  expect_refusal("train --arch none.json --data synthetic:8x8x9 " + out, 3, {"none.json"});
  expect_refusal("train --arch mobilenet_v2 --data synthetic:8x8x90 --classes 3 " + out, 3,
                 {"synthetic", "label"});
  expect_refusal(kSearch + kFast + "--shards 4294967296 " + out, 2, {"--shards", "too large"});
  expect_refusal(kSearch + kFast + "--delay-fraction 3 " + out, 2, {"--delay-fraction", "1"});
  expect_refusal(kSearch + kFast + "--beta 0.5 " + out, 2, {"--beta"});
  expect_refusal(kSearch + kFast + "--cost /tmp " + out, 2, {"/tmp"});
  expect_refusal(kSearch + "--target 57 " + out, 2, {"multiply-adds", "flag --target"});
  expect_refusal(kSearch + kFast + "--out /dev/null/x", 3, {"/dev/null/x"});
  expect_refusal(
      "train --arch mobilenet_v2 --data synthetic:8x8x900000 --batch-size 800000 "
      "--shards 1 --steps 1 " +
          out,
      4, {"--batch-size"});
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(RunsTest, AnExistingRunIsKeptUnlessOverwritten) {
  fs::create_directories(path("run"));
  engine::write_file(path("run/notes.txt"), "mine");
  engine::write_file(path("run/config.json"), "{}");
  const std::string search = kSearch + kFast + "--out " + path("run");
  expect_refusal(search, 2, {path("run"), "--overwrite"});
  EXPECT_EQ(run(search + " --overwrite").code, 0);
  const std::string found = text("run/arch.json");
  expect_refusal(search + " --overwrite --min-area 0", 2, {"--min-area"});
  expect_refusal(search + " --overwrite --warm 1", 2, {"--warm"});
  EXPECT_EQ(text("run/arch.json"), found) << "a call that is refused costs nothing";
  EXPECT_EQ(text("run/notes.txt"), "mine");
  EXPECT_EQ(lines("run/metrics.jsonl").size(), 4u);
}

TEST_F(RunsTest, SearchTrainEval) {
  const Result search = run(kSearch + kFast + "--json --out " + path("search"));
  ASSERT_EQ(search.code, 0) << search.err;
  const std::vector<Json> steps = lines("search/metrics.jsonl");
  ASSERT_EQ(steps.size(), 4u);
  for (const char* key : {"step", "loss", "train_accuracy", "accuracy", "reward", "baseline",
                          "cost", "entropy", "lr", "controller_lr", "op_warmup", "filter_warmup"}) {
    EXPECT_TRUE(steps[3].contains(key)) << key;
  }
  EXPECT_EQ(steps[3]["step"], 3);
  EXPECT_EQ(lines("search/timing.jsonl").size(), 4u);
  const Json config = Json::parse(text("search/config.json"));
  EXPECT_EQ(config["target"], Json({{"value", 2e5}, {"from", "flag --target"}}));
  EXPECT_EQ(config["recipe"], Json({{"value", "small"}, {"from", "default"}}));
  EXPECT_NE(text("search/log.txt").find("4 steps of 2 x 4 images"), std::string::npos);
  const Json arch = Json::parse(text("search/arch.json"));
  EXPECT_EQ(Json::parse(search.out), arch);
  EXPECT_EQ(arch["network"]["resolution"], 16);
  EXPECT_EQ(arch["steps"], 4);
  EXPECT_EQ(engine::Safetensors(path("search/weights.safetensors")).metadata().at("space"), "tiny");

  const Result train =
      run("train --arch " + path("search/arch.json") +
          " --data synthetic:24x24x200 --batch-size 8 --steps 3 --threads 1 --json --out " +
          path("train"));
  ASSERT_EQ(train.code, 0) << train.err;
  EXPECT_EQ(Json::parse(train.out)["count"], 20) << "a tenth is held out";
  EXPECT_EQ(lines("train/metrics.jsonl").size(), 4u) << "three steps and the scores";
  EXPECT_EQ(lines("train/metrics.jsonl").back(), Json::parse(train.out));

  const std::string eval = "eval --arch " + path("train/arch.json") + " --weights " +
                           path("train/weights.safetensors") +
                           " --data synthetic:24x24x50 --json --batch-size 16 --threads 1";
  const Result all = run(eval), whole = run(eval + " --drop-last");
  ASSERT_EQ(all.code, 0) << all.err;
  const Json scores = Json::parse(all.out);
  EXPECT_EQ(scores["count"], 50);
  EXPECT_LE(scores["top1"], scores["top5"]);
  EXPECT_GT(scores["loss"], 0);
  EXPECT_EQ(Json::parse(whole.out)["count"], 48);
  expect_refusal(eval + " --drop-last --batch-size 60", 3, {"no image would be scored"});

  expect_refusal("eval --arch mobilenet_v2 --data synthetic:8x8x9 --weights " +
                     path("train/weights.safetensors"),
                 3, {path("train/weights.safetensors"), "blocks/"});
  expect_refusal("eval --arch mobilenet_v2 --data synthetic:8x8x9 --weights " + path("none"), 3,
                 {path("none")});
}

// The running averages are those of the last steps, also where there are few (recipes.h).
TEST_F(RunsTest, RunningAveragesRememberAsTold) {
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

TEST_F(RunsTest, TrainsAsTorchvisionDoes) {
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

TEST_F(RunsTest, NothingIsLostToAnOutput) {
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

TEST_F(RunsTest, WeightsThatAreNotFiniteScoreNothing) {
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

TEST_F(RunsTest, AnotherRecipeReplacesWhatNobodyChose) {
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

TEST_F(RunsTest, RecipesSayWhatIsPublished) {
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

TEST_F(RunsTest, NothingDependsOnThreadsOrWorkers) {
  for (const char* n : {"1", "3"}) {
    const std::string name = std::string("run") + n;
    const Result result =
        run(kSearch + kFast + "--threads " + n + " --workers " + n + " --out " + path(name));
    ASSERT_EQ(result.code, 0) << result.err;
  }
  EXPECT_EQ(text("run1/metrics.jsonl"), text("run3/metrics.jsonl"));
  EXPECT_EQ(text("run1/weights.safetensors"), text("run3/weights.safetensors"));
  const Result again = run("search --config " + path("run1/config.json") + " --out " + path("run"));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(text("run1/metrics.jsonl"), text("run/metrics.jsonl"));
  EXPECT_EQ(text("run1/arch.json"), text("run/arch.json"));
}

TEST_F(RunsTest, KernelsOfTheLibraryComputeTheSame) {
  const std::string own = kSearch + kFast + "--kernels own --out " + path("own");
  ASSERT_EQ(run(own).code, 0);
  const Result library = run(kSearch + kFast + "--kernels library --out " + path("library"));
#ifdef TUNAS_ONEDNN
  ASSERT_EQ(library.code, 0) << library.err;
  const std::vector<Json> a = lines("own/metrics.jsonl"), b = lines("library/metrics.jsonl");
  EXPECT_NEAR(a[0]["loss"].get<double>(), b[0]["loss"].get<double>(), 1e-4);
  EXPECT_NE(text("own/metrics.jsonl"), text("library/metrics.jsonl")) << "two ways of rounding";
#else
  EXPECT_EQ(library.code, 2) << library.err;
  EXPECT_NE(library.err.find("--kernels own"), std::string::npos) << library.err;
#endif
}

TEST_F(RunsTest, ALatencyTableIsMeasuredAndSearchedWith) {
  const std::string measure = "latency measure " + kSpace + "--resolution 16 --threads 1 ";
  const Result table = run(measure + "--networks 5 --repeats 2 --json -o " + path("table.json"));
  ASSERT_EQ(table.code, 0) << table.err;
  const Json evaluation = Json::parse(table.out);
  EXPECT_EQ(evaluation["networks"], 5);
  EXPECT_GT(evaluation["median_ms"], 0);
  const Json written = Json::parse(text("table.json"));
  EXPECT_EQ(written["evaluation"], evaluation);
  EXPECT_EQ(written["resolution"], 16);
  const Result priced = run("cost " + kSpace + "--resolution 16 --cost " + path("table.json") +
                            " --indices 0:0:0:0:0:0:0:0:0");
  ASSERT_EQ(priced.code, 0) << priced.err;
  EXPECT_GT(std::stod(priced.out), 0);
  const Result searched =
      run(kSearch + "--cost " + path("table.json") + " --target " +
          std::to_string(std::stod(priced.out)) +
          " --batch-size 8 --shards 2 --steps 2 --threads 1 --out " + path("run"));
  EXPECT_EQ(searched.code, 0) << searched.err;
  expect_refusal(measure + "-o /none/table.json", 3, {"/none/table.json"});
}

TEST_F(RunsTest, HeldOutImagesMayHaveClassesThatTheTrainingSampleLacks) {
  const data::testing::Folder images;
  const std::string two = images.write("two.tar", data::testing::make_tar(2));
  const std::string five = images.write("five.tar", data::testing::make_tar(5));
  const Result train = run(
      "train --arch mobilenet_v2 --width 0.1 --resolution 32 --batch-size 2 --steps 1 --data tar:" +
      two + " --val-data tar:" + five + " --json --out " + path("train"));
  ASSERT_EQ(train.code, 0) << train.err;
  EXPECT_EQ(Json::parse(text("train/config.json"))["classes"]["value"], 5);
  EXPECT_EQ(Json::parse(train.out)["count"], 5);
}

TEST_F(RunsTest, DamagedImagesAreNamedCountedAndLeftOut) {
  using data::testing::Bytes;
  const data::testing::Folder images;
  const std::string tar = images.write("a.tar", data::testing::make_tar(20, [](int i, Bytes& jpeg) {
                                         if (i == 3) jpeg.resize(jpeg.size() / 2);
                                       }));
  const Result train =
      run("train --arch mobilenet_v2 --width 0.1 --data tar:" + tar +
          " --resolution 32 --batch-size 5 --steps 8 --threads 1 --out " + path("train"));
  ASSERT_EQ(train.code, 0) << train.err;
  EXPECT_NE(train.err.find("left out: " + tar + ": k3 (at byte 14848): "), std::string::npos)
      << train.err;
  EXPECT_NE(train.err.find(" of the image)"), std::string::npos) << train.err;
  EXPECT_NE(text("train/log.txt").find("1 images could not be decoded"), std::string::npos);
  const Result eval = run("eval --json --threads 1 --arch " + path("train/arch.json") +
                          " --weights " + path("train/weights.safetensors") + " --data tar:" + tar);
  ASSERT_EQ(eval.code, 0) << eval.err;
  EXPECT_EQ(Json::parse(eval.out)["count"], 19);
  EXPECT_EQ(Json::parse(eval.out)["skipped"], 1);
  const std::string again = "eval --json --threads 1 --arch " + path("train/arch.json") +
                            " --weights " + path("train/weights.safetensors") +
                            " --data tar:" + tar + " --on-bad-sample ";
  const Result replaced = run(again + "replace");
  ASSERT_EQ(replaced.code, 0) << replaced.err;
  EXPECT_EQ(Json::parse(replaced.out)["count"], 20);
  EXPECT_EQ(Json::parse(replaced.out)["skipped"], 1);
  EXPECT_NE(replaced.err.find("replaced by grey: " + tar + ": k3 (at byte 14848): "),
            std::string::npos);
  const Result failed = run(again + "fail");
  EXPECT_EQ(failed.code, 3);
  EXPECT_NE(failed.err.find(tar + ": k3 (at byte 14848): "), std::string::npos) << failed.err;
  EXPECT_NE(failed.err.find("--on-bad-sample skip or replace"), std::string::npos) << failed.err;
  EXPECT_EQ(
      run("train --arch mobilenet_v2 --width 0.1 --data tar:" + tar +
          " --resolution 32 --batch-size 5 --steps 8 --threads 1 --on-bad-sample fail --out " +
          path("failed"))
          .code,
      3);

  Bytes cut = data::testing::make_tar(4);
  cut.resize(cut.size() / 2);
  const std::string broken = images.write("broken.tar", cut);
  expect_refusal("train --arch mobilenet_v2 --data tar:" + broken + " --out " + path("b"), 3,
                 {broken});
  EXPECT_FALSE(fs::exists(path("b")));
}

TEST_F(RunsTest, AFullDiskCostsNothingThatIsWritten) {
  // No file may grow beyond 16 blocks of 512 bytes: the metrics reach that first.
  const Result result = run(kSearch + kFast + "--steps 200 --out " + path("run"), "ulimit -f 16;");
  EXPECT_EQ(result.code, 3) << result.err;
  const std::string last = result.err.substr(result.err.rfind("error: "));
  EXPECT_NE(last.find("cannot be written"), std::string::npos) << last;
  EXPECT_NE(last.find(path("run")), std::string::npos) << last;
  EXPECT_EQ(std::count(last.begin(), last.end(), '\n'), 1) << last;
  EXPECT_GT(lines("run/metrics.jsonl").size(), 10u);
  EXPECT_LE(fs::file_size(path("run/metrics.jsonl")), 16 * 512u);
  EXPECT_EQ(text("run/metrics.jsonl").back(), '\n');
  EXPECT_NE(result.err.find("so far: indices "), std::string::npos) << result.err;
}

TEST_F(RunsTest, ASearchThatDivergesLeavesWhatItFound) {
  const Result result = run(kSearch + kFast + "--lr 1e30 --steps 40 --out " + path("run"));
  EXPECT_EQ(result.code, 6) << result.err;
  EXPECT_TRUE(Json::parse(text("run/arch.json")).contains("indices"));
  EXPECT_NE(text("run/log.txt").find("ended by an error"), std::string::npos);
}

TEST_F(RunsTest, ShardsDivideTheBatch) {
  const std::string search = kSearch + "--cost macs --target 2e5 --steps 1 --threads 1 --out ";
  for (const char* batch : {"130", "6", "1"}) {
    const Result result = run(search + path(batch) + " --batch-size " + batch);
    EXPECT_EQ(result.code, 0) << result.err;
  }
  EXPECT_EQ(Json::parse(text("130/config.json"))["shards"]["value"], 2);
  EXPECT_EQ(Json::parse(text("6/config.json"))["shards"]["value"], 3);
}

TEST_F(RunsTest, TheHigherRankDecidesHowLongARunIs) {
  engine::write_file(path("c.json"), R"({"steps": 7})");
  const std::string search = kSearch + "--cost macs --target 2e5 --batch-size 8 --threads 1 ";
  ASSERT_EQ(run(search + "--config " + path("c.json") + " --epochs 0.1 --out " + path("a")).code,
            0);
  EXPECT_EQ(lines("a/metrics.jsonl").size(), 2u) << "180 images, a tenth of an epoch";
  ASSERT_EQ(run(search + "--config " + path("c.json") + " --out " + path("b")).code, 0);
  EXPECT_EQ(lines("b/metrics.jsonl").size(), 7u);
  const Json config = Json::parse(text("b/config.json"));
  EXPECT_NEAR(config["epochs"]["value"].get<double>(), 7 * 8 / 180.0, 1e-6);
  for (const char* key : {"resolution", "classes", "holdout", "shards", "target"}) {
    EXPECT_FALSE(config[key]["value"].is_null()) << key;
  }
}

/// Starts a search that would take for ever and returns once it has done a step.
pid_t RunsTest::start_long_search(const std::string& options) const {
  std::vector<std::string> words = {TUNAS_PROGRAM};
  std::istringstream split(kSearch + kFast + "--steps 100000 " + options + " --out " + path("run"));
  for (std::string word; split >> word;) words.push_back(word);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const int out = ::open(path("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const auto begun = [&] {
    return fs::exists(path("run/metrics.jsonl")) && fs::file_size(path("run/metrics.jsonl")) > 0;
  };
  for (int i = 0; i < 3000 && !begun(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return child;
}

TEST_F(RunsTest, InterruptWritesWhatWasFound) {
  const pid_t child = start_long_search();
  ASSERT_GT(child, 0);
  ::kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << text("out");
  EXPECT_EQ(WEXITSTATUS(status), 130) << text("out");
  const std::size_t steps = lines("run/metrics.jsonl").size();
  EXPECT_GT(steps, 0u);
  EXPECT_EQ(Json::parse(text("run/arch.json"))["steps"], steps);
  EXPECT_GT(engine::Safetensors(path("run/weights.safetensors")).entries().size(), 0u);
}

TEST_F(RunsTest, ASecondInterruptDoesNotWait) {
  const pid_t child = start_long_search("--batch-size 2000");  // a step outlasts both signals
  ASSERT_GT(child, 0);
  ::kill(child, SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ::kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << text("out");
}

}  // namespace
}  // namespace tunas::tools
