// Runs that end early and go on: by a signal, by a kill, on another number of ranks. What they
// leave in the end is, byte for byte, what a run leaves that was never disturbed.
#include <gtest/gtest.h>

#include <csignal>

#include "engine/checkpoint.h"
#include "engine/gloo.h"
#include "kernels/philox.h"
#include "tests/tools/runs.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public RunsTest {
 protected:
  static std::string search(int steps = 40) {
    return search_call() + "--cost macs --target 2e5 --batch-size 16 --shards 4 --threads 1 " +
           "--checkpoint-every 6 --peer-timeout 20 --steps " + std::to_string(steps) + " ";
  }
  static std::string train(int steps = 40) {
    return std::string("train --arch mobilenet_v3_large --width 0.25 --resolution 16 ") +
           "--small-images --data synthetic:24x24x200 --ema 0.9 --dropout 0.2 --batch-size 16 " +
           "--shards 4 --threads 1 --checkpoint-every 6 --peer-timeout 20 --steps " +
           std::to_string(steps) + " ";
  }
  static std::string on(int ranks) { return "launch -n " + std::to_string(ranks) + " -- "; }
  std::string out(const std::string& name) const { return "--out " + path(name) + " "; }

  /// Both runs left the same, timing and messages apart.
  void expect_same(const std::string& a, const std::string& b) const {
    for (const char* name : {"metrics.jsonl", "arch.json", "weights.safetensors"}) {
      EXPECT_TRUE(text(a + "/" + name) == text(b + "/" + name)) << a << ", " << b << ": " << name;
    }
    const auto last = [this](const std::string& run) {
      return engine::Checkpoint(
          engine::list_checkpoints(path(run + "/checkpoints")).rbegin()->second);
    };
    const engine::Checkpoint x = last(a), y = last(b);
    EXPECT_EQ(x.step(), y.step());
    EXPECT_EQ(x.score(), y.score());
    for (const char* name :
         {"weights.safetensors", "state.safetensors", "controller.safetensors"}) {
      if (!fs::exists(x.folder() + "/" + name)) continue;  // a training has no controller
      EXPECT_TRUE(engine::read_file(x.folder() + "/" + name) ==
                  engine::read_file(y.folder() + "/" + name))
          << name;
    }
  }
};

TEST_F(ResumeTest, StoppedBySignalsAndGoneOnWithOnOtherRanks) {
  if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  for (const std::string& call : {search(), train()}) {
    const std::string name = call.substr(0, 5);
    ASSERT_EQ(run(call + out(name + "_whole")).code, 0) << text("err");
    const std::string part = name + "_part", lines = part + "/metrics.jsonl";
    const std::string again = call + out(part) + "--resume auto ";
    pid_t running = start(on(2) + again);  // where nothing is there, a new run
    wait_for_lines(lines, 3);
    ::kill(running, SIGTERM);
    EXPECT_EQ(wait(running), 75) << text("err");
    EXPECT_NE(text("err").find("--resume auto goes on"), std::string::npos) << text("err");
    const auto done = static_cast<long>(this->lines(lines).size());
    EXPECT_LT(done, 40);
    running = start(on(4) + again);
    wait_for_lines(lines, done + 3);
    ::kill(running, SIGUSR1);
    EXPECT_EQ(wait(running), 75) << text("err");
    EXPECT_NE(text("err").find("goes on after step " + std::to_string(done)), std::string::npos);
    EXPECT_EQ(run(again + "--workers 1").code, 0) << text("err");
    expect_same(name + "_whole", part);
    // A finished one has nothing left to do but its last words.
    EXPECT_EQ(run(again).code, 0) << text("err");
    expect_same(name + "_whole", part);
  }
}

TEST_F(ResumeTest, TimingTellsOfSumsAndCheckpoints) {
  ASSERT_EQ(run(search(14) + out("alone")).code, 0) << text("err");
  for (const Json& step : lines("alone/timing.jsonl")) {
    EXPECT_FALSE(step.contains("reduce_seconds")) << step;
    // That of the step before, 6 and 12 of them; the last one is after all steps.
    EXPECT_EQ(step.contains("checkpoint_seconds"), step["step"] == 6 || step["step"] == 12) << step;
  }
  if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  ASSERT_EQ(run(on(2) + search(14) + out("two")).code, 0) << text("err");
  double writes = 0;
  for (const Json& step : lines("two/timing.jsonl")) {
    EXPECT_GT(step["reduce_seconds"], 0) << step;
    EXPECT_GE(step["reduce_wait_seconds"], 0) << step;
    EXPECT_LT(step["reduce_wait_seconds"], step["step_seconds"]) << step;
    writes += step.value("checkpoint_write_seconds", 0.0);
  }
  EXPECT_GT(writes, 0) << "the second waits for the first";
}

TEST_F(ResumeTest, KilledAtAnyMoment) {
  ASSERT_EQ(run(search(200) + out("whole")).code, 0) << text("err");
  const std::string again = search(200) + out("part") + "--resume auto ";
  int kills = 0;
  for (std::uint32_t i = 0;; ++i) {
    const auto saved = engine::list_checkpoints(path("part/checkpoints"));
    const long done = saved.empty() ? 0 : saved.rbegin()->first;
    const Random4 random = philox({1, Purpose::test, i, 0}, 0);
    const pid_t running = start(again);
    // Every third one while it begins, the others after steps enough for a checkpoint.
    if (i % 3 != 0)
      wait_for_lines("part/metrics.jsonl", std::min(200L, done + 7 + random.v[1] % 40));
    // Ever longer: lines of the run that was killed are there until this one cuts them off.
    std::this_thread::sleep_for(
        std::chrono::milliseconds(random.v[0] % static_cast<unsigned>(30 + 5 * kills)));
    ::kill(running, SIGKILL);
    const int code = wait(running);
    if (code == 0) break;
    ASSERT_EQ(code, 1000 + SIGKILL) << text("err");
    ASSERT_LT(++kills, 100) << "no progress";
  }
  EXPECT_GT(kills, 5);
  expect_same("whole", "part");
}

TEST_F(ResumeTest, ALostRankIsReplacedByTheLauncher) {
  if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  ASSERT_EQ(run(search(100) + out("whole")).code, 0) << text("err");
  const pid_t launcher = start("launch -n 2 --max-restarts 1 -- " + search(100) + out("part"));
  wait_for_lines("part/metrics.jsonl", 8);
  const std::vector<pid_t> ranks = children(launcher);
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGKILL);
  EXPECT_EQ(wait(launcher), 0) << text("err");
  EXPECT_NE(text("err").find("started again"), std::string::npos) << text("err");
  expect_same("whole", "part");
}

TEST_F(ResumeTest, FromACheckpointIntoAnotherFolder) {
  ASSERT_EQ(run(search(20) + out("a") + "--keep 2").code, 0) << text("err");
  const std::string from = "--resume " + path("a/checkpoints/step-000000018") + " ";
  ASSERT_EQ(run(search(20) + out("b") + from).code, 0) << text("err");
  expect_same("a", "b");
  EXPECT_EQ(engine::list_checkpoints(path("b/checkpoints")).size(), 1u);
  // Within its own run, later checkpoints and lines give way.
  ASSERT_EQ(run(search(20) + out("a") + from).code, 0) << text("err");
  expect_same("a", "b");
  expect_refusal(search(20) + out("b") + from, 2, {path("b"), "another run"});
  expect_refusal(search(20) + out("c") + "--resume " + path("none"), 3, {path("none")});
  EXPECT_FALSE(fs::exists(path("c")));
}

TEST_F(ResumeTest, ResultsComeAfterTheLastCheckpoint) {
  // A kill between them must leave what --resume auto can go on from.
  ASSERT_EQ(run(search(5) + out("a")).code, 0) << text("err");
  EXPECT_GE(fs::last_write_time(path("a/weights.safetensors")),
            fs::last_write_time(path("a/checkpoints")));
}

TEST_F(ResumeTest, RefusesWhatWouldNotBeTheSameRun) {
  ASSERT_EQ(run(search(7) + out("a")).code, 0) << text("err");
  const std::string again = search(7) + out("a") + "--resume auto ";
  expect_refusal(again + "--lr 0.5", 2, {"--lr 0.3", "--lr 0.5", "flag --lr"});
  expect_refusal(again + "--val-data synthetic:24x24x20", 2, {"no --val-data"});
  expect_refusal(again + "--overwrite", 2, {"--overwrite", "--resume"});
  EXPECT_EQ(run(again + "--workers 3 --keep 1 --cache-holdout host").code, 0) << text("err");
}

TEST_F(ResumeTest, GoesBackToTheNewestWholeCheckpoint) {
  ASSERT_EQ(run(search(20) + out("a")).code, 0) << text("err");
  fs::copy(path("a"), path("b"), fs::copy_options::recursive);
  engine::write_file(path("b/checkpoints/step-000000020/state.safetensors"), "x");
  const Result again = run(search(20) + out("b") + "--resume auto");
  EXPECT_EQ(again.code, 0) << again.err;
  const std::string damaged = "step-000000020/state.safetensors: is damaged";
  EXPECT_NE(again.err.find(damaged), std::string::npos) << again.err;
  EXPECT_EQ(again.err.find("warning"), again.err.rfind("warning")) << again.err;
  expect_same("a", "b");

  for (const auto& [step, folder] : engine::list_checkpoints(path("b/checkpoints"))) {
    fs::remove(folder + "/manifest.json");
  }
  expect_refusal(search(20) + out("b") + "--resume auto", 3, {"none of its", "--overwrite"});
  fs::remove_all(path("b/checkpoints"));
  expect_refusal(search(20) + out("b") + "--resume auto", 2, {"has ended", "--overwrite"});
  EXPECT_EQ(run(search(20) + out("b") + "--overwrite").code, 0) << text("err");
  expect_same("a", "b");
}

TEST_F(ResumeTest, ARunFolderHasOneRunAtATime) {
  const pid_t running = start(search(100000) + out("a"));
  wait_for_lines("a/metrics.jsonl", 1);
  const std::string owner = "process " + std::to_string(running);
  expect_refusal(search(100000) + out("a") + "--resume auto", 2, {path("a"), owner});
  expect_refusal(search(100000) + out("a") + "--overwrite", 2, {path("a"), owner});
  ::kill(running, SIGKILL);
  wait(running);
  EXPECT_EQ(run(search(7) + out("a") + "--overwrite").code, 0) << text("err");
  EXPECT_EQ(lines("a/metrics.jsonl").size(), 7u);
}

TEST_F(ResumeTest, ACheckpointThatCannotBeWrittenIsAWarning) {
  // Weights take 0.5 MB, lines less: the limit stops the one and not the other.
  const Result result = run(search(20) + out("a") + "--checkpoint-every 5", "ulimit -f 16;");
  EXPECT_NE(result.err.find("warning: " + path("a/checkpoints")), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("warning"), result.err.rfind("warning")) << result.err;
  EXPECT_EQ(lines("a/metrics.jsonl").size(), 20u) << "the run went on";
  EXPECT_TRUE(engine::list_checkpoints(path("a/checkpoints")).empty());
}

}  // namespace
}  // namespace tunas::tools
