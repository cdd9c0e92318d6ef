// Searches, trainings and evaluations by the program, on noise: what they refuse, what they leave
// in the run folder, how they end early, and that nothing depends on the number of threads.
#include <gtest/gtest.h>

#include <csignal>

#include "engine/device.h"
#include "engine/safetensors.h"
#include "tests/data/samples.h"
#include "tests/tools/runs.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kFast =
    "--cost macs --target 2e5 --batch-size 8 --shards 2 --steps 4 --threads 1 ";

TEST_F(RunsTest, MistakesAreRefusedBeforeAnythingStarts) {
  const std::string out = "--out " + path("run");
  expect_refusal(search_call() + kFast, 2, {"--out"});
  expect_refusal("search --data synthetic:8x8x9 " + out, 2, {"--space SPACE"});
  expect_refusal("search " + space_flag() + out, 2, {"--data SPEC"});
  expect_refusal(search_call() + "--shards 2 --batch-size 9 --target 2 " + out, 2,
                 {"9", "2 equal"});
  expect_refusal(search_call() + "--cost macs " + out, 2, {"--target", "multiply-adds"});
  expect_refusal(search_call() + kFast + "--op-warmup 0.5 --delay-fraction 0.1 " + out, 2,
                 {"warm-up"});
  expect_refusal(search_call() + kFast + "--holdout 0 " + out, 2, {"--holdout"});
  if (std::string why; engine::Device::gpus(why) == 0) {
    expect_refusal(search_call() + kFast + "--device cuda " + out, 2,
                   {"--device cuda: ", why, "--device cpu"});
  }
  expect_refusal(search_call() + kFast + "--cost pixel1 " + out, 2, {"tiny", "--cost macs"});
  expect_refusal("search " + space_flag() + "--data fashion-mnist:/none " + out, 3, {"/none"});
  expect_refusal("search " + space_flag() + "--data tar:/none-*.tar " + out, 3, {"/none-*.tar"});
  expect_refusal("search " + space_flag() + "--data imagenet " + out, 2, {"imagenet"});
  expect_refusal("train --arch mobilenet_v9 --data synthetic:8x8x9 " + out, 2, {"mobilenet_v2"});
  expect_refusal(
      "train --arch mobilenet_v2 --lr-gamma 0.9 --steps 1 --batch-size 1 --data synthetic:8x8x9 " +
          out,
      2, {"--lr-gamma", "--schedule cosine"});
  expect_refusal(
      "train --arch mobilenet_v2 --schedule step --warmup 0.1 --steps 1 --batch-size 1 --data "
      "synthetic:8x8x9 " +
          out,
      2, {"--warmup", "--schedule step"});
  expect_refusal("train --arch none.json --data synthetic:8x8x9 " + out, 3, {"none.json"});
  expect_refusal("train --arch mobilenet_v2 --data synthetic:8x8x90 --classes 3 " + out, 3,
                 {"synthetic", "label"});
  expect_refusal(search_call() + kFast + "--shards 4294967296 " + out, 2,
                 {"--shards", "too large"});
  expect_refusal(search_call() + kFast + "--delay-fraction 3 " + out, 2, {"--delay-fraction", "1"});
  expect_refusal(search_call() + kFast + "--beta 0.5 " + out, 2, {"--beta"});
  expect_refusal(search_call() + kFast + "--cost /tmp " + out, 2, {"/tmp"});
  expect_refusal(search_call() + "--target 57 " + out, 2, {"multiply-adds", "flag --target"});
  expect_refusal(search_call() + kFast + "--out /dev/null/x", 3, {"/dev/null/x"});
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
  const std::string search = search_call() + kFast + "--out " + path("run");
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
  const Result search = run(search_call() + kFast + "--json --out " + path("search"));
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

TEST_F(RunsTest, NothingDependsOnThreadsOrWorkers) {
  for (const char* n : {"1", "3"}) {
    const std::string name = std::string("run") + n;
    const Result result =
        run(search_call() + kFast + "--threads " + n + " --workers " + n + " --out " + path(name));
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
  const std::string own = search_call() + kFast + "--kernels own --out " + path("own");
  ASSERT_EQ(run(own).code, 0);
  const Result library = run(search_call() + kFast + "--kernels library --out " + path("library"));
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
  const Result result =
      run(search_call() + kFast + "--steps 200 --out " + path("run"), "ulimit -f 16;");
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
  const Result result = run(search_call() + kFast + "--lr 1e30 --steps 40 --out " + path("run"));
  EXPECT_EQ(result.code, 6) << result.err;
  EXPECT_NE(result.err.find("in 20 steps in a row"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("a smaller --lr may help"), std::string::npos) << result.err;
  EXPECT_TRUE(Json::parse(text("run/arch.json")).contains("indices"));
  EXPECT_NE(text("run/log.txt").find("ended by an error"), std::string::npos);
}

TEST_F(RunsTest, ShardsDivideTheBatch) {
  const std::string search =
      search_call() + "--cost macs --target 2e5 --steps 1 --threads 1 --out ";
  for (const char* batch : {"130", "6", "1"}) {
    const Result result = run(search + path(batch) + " --batch-size " + batch);
    EXPECT_EQ(result.code, 0) << result.err;
  }
  EXPECT_EQ(Json::parse(text("130/config.json"))["shards"]["value"], 2);
  EXPECT_EQ(Json::parse(text("6/config.json"))["shards"]["value"], 3);
}

TEST_F(RunsTest, TheHigherRankDecidesHowLongARunIs) {
  engine::write_file(path("c.json"), R"({"steps": 7})");
  const std::string search = search_call() + "--cost macs --target 2e5 --batch-size 8 --threads 1 ";
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

class InterruptTest : public RunsTest {
 protected:
  /// Starts a search that would take for ever and returns once it has done a step.
  pid_t start_long_search(const std::string& options = "") const {
    const pid_t child =
        start(search_call() + kFast + "--steps 100000 " + options + " --out " + path("run"));
    wait_for_lines("run/metrics.jsonl", 1);
    return child;
  }
};

TEST_F(InterruptTest, InterruptWritesWhatWasFound) {
  const pid_t child = start_long_search();
  ::kill(child, SIGINT);
  EXPECT_EQ(wait(child), 130) << text("err");
  const std::size_t steps = lines("run/metrics.jsonl").size();
  EXPECT_GT(steps, 0u);
  EXPECT_EQ(Json::parse(text("run/arch.json"))["steps"], steps);
  EXPECT_GT(engine::Safetensors(path("run/weights.safetensors")).entries().size(), 0u);
}

TEST_F(InterruptTest, ASecondInterruptDoesNotWait) {
  const pid_t child = start_long_search("--batch-size 2000");  // a step outlasts both signals
  ::kill(child, SIGINT);
  pause();
  ::kill(child, SIGINT);
  EXPECT_EQ(wait(child), 1000 + SIGINT) << text("err");
}

}  // namespace
}  // namespace tunas::tools
