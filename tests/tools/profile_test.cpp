// tunas profile by the program: the sums of what it prints, the trace, what it refuses.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::json;

const std::string kSpace =
    std::string("--space ") + TUNAS_SOURCE_DIR + "/tests/search/spaces/tiny.json ";
const std::string kSmall = "--batch-size 4 --steps 2 --threads 1 ";

class ProfileTest : public ProgramTest {
 protected:
  Json profile(const std::string& arguments) const {
    const Result result = run("profile --json " + kSmall + arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  }
  static double sum(const Json& rows, const char* key) {
    double total = 0;
    for (const Json& row : rows) total += row[key].get<double>();
    return total;
  }
};

TEST_F(ProfileTest, EveryTableHoldsTheWholeStep) {
  const Json all = profile("--arch mobilenet_v3_large --width 0.25 --resolution 32");
  EXPECT_EQ(all["pass"], "train");
  EXPECT_EQ(all["clock"], "timers");
  const double step = all["watched_step_seconds"], kernels = all["kernel_seconds"];
  EXPECT_GT(kernels, 0);
  EXPECT_LE(kernels, step);
  EXPECT_NEAR(all["outside_seconds"].get<double>(), step - kernels, 1e-9);
  EXPECT_GT(all["copy_bytes_per_second"], 1e8);
  EXPECT_GT(all["bytes"].get<double>(), all["fusion_bytes"].get<double>());
  for (const char* table : {"by_kernel", "by_layer", "by_call"}) {
    EXPECT_NEAR(sum(all[table], "share") + all["outside_seconds"].get<double>() / step, 1, 1e-6);
    EXPECT_NEAR(sum(all[table], "seconds"), kernels, 1e-9) << table;
    EXPECT_NEAR(sum(all[table], "bytes") / all["bytes"].get<double>(), 1, 1e-12) << table;
  }
}

TEST_F(ProfileTest, PassesOfAStep) {
  const auto passes = [](const Json& all) {
    std::map<std::string, double> calls;
    for (const Json& row : all["by_kernel"]) {
      calls[row["pass"].get<std::string>()] += row["calls"].get<double>();
    }
    return calls;
  };
  const auto search = passes(profile(kSpace + "--val-multiplier 2"));
  EXPECT_EQ(search.size(), 4u) << "one shard has nothing to add up";
  EXPECT_EQ(search.at("update"), 2) << "the check of the gradient, and what it allows";
  EXPECT_EQ(search.at("forward"), search.at("validation"));
  EXPECT_GT(search.at("backward"), 0);
  const auto train = passes(profile(kSpace + "--pass train"));
  EXPECT_EQ(train.size(), 3u);
  const auto eval = passes(profile(kSpace + "--pass eval"));
  EXPECT_EQ(eval.size(), 1u);
  EXPECT_GT(eval.at("evaluation"), 0);
}

TEST_F(ProfileTest, TheArchitectureIsTheOneAskedFor) {
  const Json drawn = profile(kSpace + "--seed 3");
  const std::string indices = drawn["indices"];
  EXPECT_EQ(indices + "\n", run("space sample " + kSpace.substr(8) + "--seed 3").out);
  const Json named = profile(kSpace + "--indices " + indices);
  EXPECT_EQ(named["bytes"], drawn["bytes"]);
  EXPECT_NE(profile(kSpace + "--seed 4")["bytes"], drawn["bytes"]);
}

TEST_F(ProfileTest, TheTraceNestsKernelsInLayersInPasses) {
  const Json all = profile(kSpace + "--trace " + path("trace.json"));
  const Json trace = Json::parse(engine::read_file(path("trace.json")));
  double calls = 0, bytes = 0;
  std::map<std::string, int> kinds;
  const Json* outer[2] = {};  // the pass and the layer that an event may lie in
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++kinds[event["cat"].get<std::string>()];
    EXPECT_GE(event["dur"], 0);
    if (event["cat"] != "kernel") continue;
    ++calls;
    bytes += event["args"]["bytes"].get<double>();
    for (const Json& around : trace["traceEvents"]) {
      if (around["ph"] != "X" || around["ts"] > event["ts"]) continue;
      if (around["cat"] == "pass") outer[0] = &around;
      if (around["cat"] == "layer") outer[1] = &around;
    }
    ASSERT_TRUE(outer[0] && outer[1]);
    EXPECT_EQ((*outer[0])["name"], event["args"]["pass"]);
    EXPECT_EQ((*outer[1])["name"], event["args"]["layer"]);
  }
  EXPECT_EQ(calls, 2 * sum(all["by_kernel"], "calls"));
  EXPECT_NEAR(bytes / 2 / all["bytes"].get<double>(), 1, 1e-12);
  EXPECT_EQ(kinds["pass"], 2 * 4);
  EXPECT_GT(kinds["layer"], 2 * 4);
}

TEST_F(ProfileTest, TextHasTheRowsAskedFor) {
  const std::string call = "profile " + kSmall + kSpace + "--pass train --by ";
  const std::string kernels = run(call + "kernel").out, layers = run(call + "layer").out,
                    both = run(call + "both").out;
  EXPECT_NE(kernels.find("backward depthwise_backward\n"), std::string::npos) << kernels;
  EXPECT_NE(layers.find("blocks/0/layers/0 "), std::string::npos) << layers;
  EXPECT_NE(both.find("forward blocks/0/layers/0 conv\n"), std::string::npos) << both;
  for (const std::string& text : {kernels, layers, both}) {
    EXPECT_NE(text.find("% of copy"), std::string::npos);
    EXPECT_NE(text.find("full fusion"), std::string::npos);
  }
}

TEST_F(ProfileTest, TheLedgerRunsNothingAndAddsUp) {
  const std::string call = "profile --ledger --batch-size 8 --arch mobilenet_v3_large ";
  const Json rows = Json::parse(run(call + "--json").out);
  const Json half = Json::parse(run(call + "--json --precision bf16").out);
  ASSERT_EQ(rows.size(), half.size());
  double fused = 0, floor = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["layer"], half[i]["layer"]);
    EXPECT_EQ(rows[i]["floor"]["forward"], 2 * half[i]["floor"]["forward"].get<double>());
    for (const char* pass : {"forward", "backward"}) {
      fused += half[i]["fused"][pass].get<double>();
      floor += half[i]["floor"][pass].get<double>();
    }
  }
  const std::string text = run(call + "--precision bf16").out;
  char total[64];
  std::snprintf(total, sizeof total, "total; fused is %.2f times the floor", fused / floor);
  EXPECT_NE(text.find(total), std::string::npos) << text;
  EXPECT_NE(text.find("bottleneck 16 > 64 > 24, k3/2"), std::string::npos);
}

TEST_F(ProfileTest, MistakesAreRefusedBeforeAnythingRuns) {
  expect_refusal("profile", 2, {"--arch", "--space"});
  expect_refusal("profile --arch mobilenet_v9", 2, {"mobilenet_v2"});
  expect_refusal("profile --arch none.json", 3, {"none.json"});
  expect_refusal("profile --arch mobilenet_v2 --indices 0", 2, {"--indices", "--space"});
  expect_refusal("profile " + kSpace + "--indices 0:1", 2, {"2 values"});
  expect_refusal("profile --arch mobilenet_v2 --pass backward", 2, {"backward", "train"});
  expect_refusal("profile --arch mobilenet_v2 --by time", 2, {"time", "layer"});
  expect_refusal("profile --arch mobilenet_v2 --steps 0", 2, {"--steps", "0"});
  expect_refusal("profile --arch mobilenet_v2 --resolution 100", 2, {"100", "104"});
  expect_refusal("profile --arch mobilenet_v2 --trace /none/trace.json", 3, {"/none/trace.json"});
}

}  // namespace
}  // namespace tunas::tools
