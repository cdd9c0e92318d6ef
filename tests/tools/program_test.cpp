// The program as its users meet it: exit codes, one sentence per mistake, data on stdout.
#include "tests/tools/program.h"
#include "tools/verb.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace tunas::tools {
namespace {

const std::string kZeros = [] {
  std::string text = "0";
  for (int i = 1; i < 73; ++i) text += ":0";
  return text;
}();

TEST_F(ProgramTest, UnknownWordsGetTheNearest) {
  expect_refusal("", 2, {"tunas --help"});
  expect_refusal("serach", 2, {"'serach'", "'search'"});
  expect_refusal("space", 2, {"list, show, count, sample"});
  expect_refusal("spce list", 2, {"'space list'"});
  expect_refusal("cost --naem x", 2, {"--naem", "--name"});
  expect_refusal("cost mobilenet_v2", 2, {"'mobilenet_v2'"});
  expect_refusal("cost --name", 2, {"--name"});
  expect_refusal("space count proxylesnas_search", 2, {"proxylessnas_search"});
  expect_refusal("doctor", 2, {"TUNAS_SEEED", "TUNAS_SEED"}, "TUNAS_SEEED=1");
}

TEST_F(ProgramTest, IndicesAreChecked) {
  const std::string cost = "cost --space proxylessnas_search --indices ";
  expect_refusal(cost + "0:1", 2, {"2 values", "73"});
  expect_refusal(cost + "9" + kZeros.substr(1), 2, {"9"});
  expect_refusal(cost + "x" + kZeros.substr(1), 2, {"x"});
  engine::write_file(path("f"), kZeros + "\n" + kZeros + ":0\n");
  expect_refusal("cost --space proxylessnas_search --indices-file " + path("f"), 2,
                 {path("f") + " line 2"});
  expect_refusal("cost --space proxylessnas_search --indices-file " + path("none"), 3,
                 {path("none")});
}

TEST_F(ProgramTest, CostPrintsOneNumberALine) {
  EXPECT_EQ(run("cost --name proxylessnas_mobile").out, "84.416241\n");
  EXPECT_EQ(run("cost --name mobilenet_v3_large --cost macs").out, "216591040.000000\n");
  const std::string one = run("cost --space proxylessnas_search --indices " + kZeros).out;
  engine::write_file(path("f"), kZeros + "\n" + kZeros + "\n");
  EXPECT_EQ(run("cost --space proxylessnas_search --indices-file " + path("f")).out, one + one);
}

TEST_F(ProgramTest, CostOutsideTheTableIsRefused) {
  expect_refusal("cost --name mobilenet_v3_large", 2, {"mobilenet_v3_large", "--cost macs"});
  expect_refusal("cost --name mobilenet_v2 --resolution 192", 2, {"192", "224", "--cost macs"});
  expect_refusal("cost --name proxylessnas_mobile --space mobilenet_v3_like_search", 2,
                 {"not in mobilenet_v3_like_search"});
}

TEST_F(ProgramTest, ArchShowIsWhatArchFilesHold) {
  const Result shown = run("arch show --name mobilenet_v3_large --json");
  ASSERT_EQ(shown.code, 0) << shown.err;
  const auto all = nlohmann::json::parse(shown.out);
  EXPECT_EQ(all["params"], 5484313);
  EXPECT_EQ(all["macs"], 216591040);
  EXPECT_TRUE(all["cost_ms"].is_null());
  EXPECT_TRUE(all["indices"].is_null());
  EXPECT_EQ(all["layers"].front()["c_out"], 16);

  const std::string indices = run("space sample mobilenet_v3_like_search --seed 4").out;
  const Result chosen = run("arch show --json --space mobilenet_v3_like_search --indices " +
                            indices.substr(0, indices.size() - 1));
  ASSERT_EQ(chosen.code, 0) << chosen.err;
  EXPECT_EQ(nlohmann::json::parse(chosen.out)["indices"].get<std::string>() + "\n", indices);
  EXPECT_TRUE(nlohmann::json::parse(chosen.out)["cost_ms"].is_number());
  engine::write_file(path("arch.json"), chosen.out);
  EXPECT_EQ(run("arch show --json --file " + path("arch.json")).out, chosen.out);
}

TEST_F(ProgramTest, ArchFilesAreChecked) {
  engine::write_file(path("a.json"), "{");
  expect_refusal("arch show --file " + path("a.json"), 3, {path("a.json"), "not JSON"});
  expect_refusal("arch show --file " + path("none.json"), 3, {path("none.json")});
  expect_refusal("arch show --name proxylessnas_search", 2, {"--indices"});
  expect_refusal("arch show --name mobilenet_v2 --resolution 100", 2, {"100", "104"});
  engine::write_file(path("s.json"), run("space show proxylessnas_search --json").out);
  expect_refusal("arch show --file " + path("s.json"), 3, {path("s.json"), "open"});
}

TEST_F(ProgramTest, SpacesGoOutAndIn) {
  const Result shown = run("space show mobilenet_v3_like_search --json");
  engine::write_file(path("s.json"), shown.out);
  EXPECT_EQ(run("space show " + path("s.json") + " --json").out, shown.out);
  EXPECT_EQ(run("space count " + path("s.json") + " --json").out,
            run("space count mobilenet_v3_like_search --json").out);
}

TEST_F(ProgramTest, SampleHoldsItsBounds) {
  const std::string sample =
      "space sample proxylessnas_search -n 5 --seed 1 --min-cost 80 --max-cost 90";
  const Result result = run(sample);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 5);
  EXPECT_EQ(run(sample).out, result.out);
  engine::write_file(path("f"), result.out);
  std::istringstream costs(run("cost --space proxylessnas_search --indices-file " + path("f")).out);
  int lines = 0;
  for (double cost; costs >> cost; ++lines) EXPECT_TRUE(cost >= 80 && cost <= 90) << cost;
  EXPECT_EQ(lines, 5);
}

TEST_F(ProgramTest, FullStandardOutputIsAnError) {
  const std::string command =
      std::string(TUNAS_PROGRAM) + " space list >/dev/full 2>" + path("err");
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 3);
  EXPECT_NE(engine::read_file(path("err")).find("standard output"), std::string::npos);
}

TEST_F(ProgramTest, DoctorSpeaksJson) {
  const Result result = run("doctor --json");
  ASSERT_EQ(result.code, 0) << result.err;
  const auto all = nlohmann::json::parse(result.out);
  for (const char* item : {"processor", "instructions", "cores", "memory", "oneDNN", "CUDA", "NCCL",
                           "Gloo", "fashion-mnist"}) {
    EXPECT_TRUE(all[item]["state"].is_string()) << item;
  }
}

TEST_F(ProgramTest, HelpOfAGroupAndOfAVerb) {
  const Result all = run("--help");
  EXPECT_EQ(all.code, 0) << all.err;
  for (const Verb& verb : verbs()) {
    EXPECT_NE(all.out.find("  " + verb.name + "  "), std::string::npos) << verb.name;
    EXPECT_EQ(run(verb.name + " --help").code, 0) << verb.name;
  }
  EXPECT_NE(run("space --help").out.find("space sample"), std::string::npos);
  EXPECT_EQ(run("space --help").code, 0);
  EXPECT_EQ(run("help search").out, run("search --help").out);
}

TEST_F(ProgramTest, AVariantOfANetworkIsCountedAsOne) {
  const std::string named = "--name mobilenet_v2 --width 0.5";
  const Result shown = run("arch show --json " + named);
  const Result cost = run("cost --cost macs " + named);
  EXPECT_EQ(nlohmann::json::parse(shown.out)["macs"], std::stol(cost.out));
  EXPECT_TRUE(nlohmann::json::parse(shown.out)["cost_ms"].is_null());
}

TEST_F(ProgramTest, OfExclusiveOptionsTheHigherRankCounts) {
  const Result flag = run("arch show --json --name mobilenet_v2", "TUNAS_SPACE=mobilenet_v2");
  EXPECT_EQ(flag.code, 0) << flag.err;
  expect_refusal("arch show --name mobilenet_v2 --file a.json", 2, {"flag --name", "flag --file"});
}

TEST_F(ProgramTest, IndicesMayComeFromAnotherSystem) {
  const std::string indices = run("space sample proxylessnas_search --seed 3").out;
  const std::string cost =
      run("cost --space proxylessnas_search --indices " + indices.substr(0, indices.size() - 1))
          .out;
  engine::write_file(path("crlf"), indices.substr(0, indices.size() - 1) + "\r\n\r\n\n");
  EXPECT_EQ(run("cost --space proxylessnas_search --indices-file " + path("crlf")).out, cost);
}

}  // namespace
}  // namespace tunas::tools
