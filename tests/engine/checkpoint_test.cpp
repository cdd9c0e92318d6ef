// Checkpoints as files: what was written is read back, and no bit of it can change, no byte be
// missing or added, without a refusal that names the file.
#include "engine/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <random>

#include "engine/file.h"
#include "kernels/error.h"
#include "tests/engine/snapshots.h"

namespace tunas::engine {
namespace {

class CheckpointTest : public CheckpointFolder {
 protected:
  std::string folder(std::int64_t step) const { return list_checkpoints(root_).at(step); }

  /// The sentence with which the checkpoint in `folder` is refused; empty where it is whole.
  static std::string refusal(const std::string& folder, Exit code = Exit::data) {
    try {
      const Checkpoint checkpoint(folder);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    return "";
  }

  /// In place: a file that is created or emptied anew is synced when it is closed, on some systems,
  /// which is the slow part of a thousand damages.
  static void overwrite(const std::string& path, const std::string& bytes) {
    if (!std::filesystem::exists(path)) write_file(path, "");
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out) << bytes;
    std::filesystem::resize_file(path, bytes.size());
  }
};

const std::vector<std::string> kFiles = {"weights.safetensors", "state.safetensors", kManifest};

TEST_F(CheckpointTest, EveryTypeReadsBack) {
  const std::vector<double> f64 = {0.1, -std::numeric_limits<double>::denorm_min()};
  const std::vector<float> f32 = {-0.0f, std::numeric_limits<float>::infinity(), 3};
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xffff};
  const std::vector<std::int64_t> i64 = {std::numeric_limits<std::int64_t>::min()};
  const std::vector<std::int32_t> i32 = {-7, 7};
  const std::vector<std::uint8_t> u8 = {0, 255, 1};
  Snapshot snapshot;
  snapshot.step = 12;
  snapshot.score = 1.0 / 3;
  snapshot.config = {{"z", 1}, {"a", {{"deep", "\"\n\u00e4"}}}};
  snapshot.lines = {{"metrics.jsonl", std::int64_t{1} << 40}};
  const auto copy = [](auto values) { return values; };
  Snapshot::File file{"all.safetensors", {}, {{"key", "value"}}};
  file.tensors.emplace_back("f64", "F64", Shape{2}, copy(f64));
  file.tensors.emplace_back("f32", "F32", Shape{1, 3}, copy(f32));
  file.tensors.emplace_back("bf16", "BF16", Shape{2}, copy(bf16));
  file.tensors.emplace_back("i64", "I64", Shape{}, copy(i64));
  file.tensors.emplace_back("i32", "I32", Shape{2}, copy(i32));
  file.tensors.emplace_back("u8", "U8", Shape{3}, copy(u8));
  file.tensors.emplace_back("none", "F32", Shape{0, 4}, std::vector<float>());
  snapshot.files.push_back(std::move(file));
  write_checkpoint(root_, snapshot);

  EXPECT_EQ(names(), std::vector<std::string>{"step-000000012"});
  const Checkpoint checkpoint(root_ + "/step-000000012");
  EXPECT_EQ(checkpoint.step(), 12);
  EXPECT_EQ(checkpoint.score(), 1.0 / 3);
  EXPECT_EQ(checkpoint.config().dump(), snapshot.config.dump());  // the order of keys, too
  EXPECT_EQ(checkpoint.lines(), snapshot.lines);
  const Safetensors& read = checkpoint.file("all.safetensors");
  EXPECT_EQ(read.metadata().at("key"), "value");
  EXPECT_EQ(read.entries().size(), 7u);
  const auto expect_bytes = [&](const char* name, const char* type, const Shape& shape,
                                const auto& values) {
    auto out = values;
    std::fill(out.begin(), out.end(), 1);
    read.read(name, type, shape, out.data());
    EXPECT_EQ(std::memcmp(out.data(), values.data(), values.size() * sizeof values[0]), 0) << name;
  };
  expect_bytes("f64", "F64", {2}, f64);
  expect_bytes("f32", "F32", {1, 3}, f32);
  expect_bytes("bf16", "BF16", {2}, bf16);
  expect_bytes("i64", "I64", {}, i64);
  expect_bytes("i32", "I32", {2}, i32);
  expect_bytes("u8", "U8", {3}, u8);
  EXPECT_EQ(read.find("none")->shape, (Shape{0, 4}));
  EXPECT_THROW(checkpoint.file("other.safetensors"), Error);
}

TEST_F(CheckpointTest, VectorsAreMovedAndHeldToTheirShape) {
  std::vector<float> values(6, 1.0f);
  const float* at = values.data();
  const OwnedTensor tensor("x", "F32", {2, 3}, std::move(values));
  EXPECT_EQ(tensor.stored().data, at);
  EXPECT_THROW(OwnedTensor("x", "F32", {2, 4}, std::vector<float>(6)), Error);
  EXPECT_THROW(OwnedTensor("x", "F64", {6}, std::vector<float>(6)), Error);
  EXPECT_THROW(OwnedTensor("x", "F31", {0}, std::vector<float>()), Error);
}

TEST_F(CheckpointTest, ASnapshotThatCannotBeAFolderIsRefused) {
  const auto code = [&](const auto& change) {
    Snapshot snapshot = snapshot_of(1);
    change(snapshot);
    try {
      write_checkpoint(root_, snapshot);
    } catch (const Error& error) {
      return error.code();
    }
    return Exit::ok;
  };
  EXPECT_EQ(code([](Snapshot& s) { s.step = -1; }), Exit::usage);
  EXPECT_EQ(code([](Snapshot& s) { s.step = 1'000'000'000; }), Exit::usage);
  EXPECT_EQ(code([](Snapshot& s) { s.score = NAN; }), Exit::usage);
  EXPECT_EQ(code([](Snapshot& s) { s.files[0].name = "../w"; }), Exit::usage);
  EXPECT_EQ(code([](Snapshot& s) { s.files[0].name = kManifest; }), Exit::usage);
  EXPECT_EQ(code([](Snapshot& s) { s.files[0].name = s.files[1].name; }), Exit::usage);
  EXPECT_FALSE(std::filesystem::exists(root_));
  EXPECT_EQ(code([](Snapshot& s) { s.step = 999'999'999; }), Exit::ok);
}

TEST_F(CheckpointTest, AThousandFlippedBitsAreSeen) {
  write_checkpoint(root_, snapshot_of(400, 0.5));
  std::mt19937 random(1);
  const std::string at = folder(400);
  for (int i = 0; i < 1000; ++i) {
    const std::string path = at + "/" + kFiles[random() % kFiles.size()];
    const std::string whole = read_file(path);
    std::string damaged = whole;
    const std::size_t byte = random() % whole.size(), bit = random() % 8;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 1 << bit);
    overwrite(path, damaged);
    ASSERT_EQ(refusal(at).rfind(path + ": is damaged", 0), 0u)
        << path << " byte " << byte << " bit " << bit << ": " << refusal(at);
    overwrite(path, whole);
  }
  EXPECT_EQ(refusal(at), "");
  expect_contents(Checkpoint(at));
}

TEST_F(CheckpointTest, NoBitOfAManifestIsFree) {
  write_checkpoint(root_, snapshot_of(1, 0.5));
  const std::string path = folder(1) + "/" + kManifest, whole = read_file(path);
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    overwrite(path, damaged);
    ASSERT_THROW(read_manifest(folder(1)), Error) << bit;
  }
}

TEST_F(CheckpointTest, FilesThatAreMissingShortOrLongAreSeen) {
  write_checkpoint(root_, snapshot_of(3));
  const std::string at = folder(3);
  for (const std::string& name : kFiles) {
    const std::string path = at + "/" + name, whole = read_file(path);
    for (std::size_t keep = 0; keep < whole.size(); keep += keep < 64 ? 1 : 61) {
      overwrite(path, whole.substr(0, keep));
      ASSERT_EQ(refusal(at).rfind(path, 0), 0u) << keep;
    }
    for (const char* more : {" ", "\n", "x"}) {
      overwrite(path, whole + more);
      EXPECT_EQ(refusal(at).rfind(path + ": is damaged", 0), 0u) << refusal(at);
    }
    std::filesystem::remove(path);
    EXPECT_EQ(refusal(at).rfind(path + ": cannot be read", 0), 0u) << refusal(at);
    overwrite(path, whole);
  }
  EXPECT_EQ(refusal(at), "");
  std::filesystem::create_directories(root_ + "/empty");
  EXPECT_EQ(refusal(root_ + "/empty").rfind(root_ + "/empty/manifest.json: cannot be read", 0), 0u);
  EXPECT_NE(refusal(root_ + "/absent"), "");
}

TEST_F(CheckpointTest, AnotherVersionAndAnotherFormAreRefused) {
  write_checkpoint(root_, snapshot_of(3));
  const std::string path = folder(3) + "/" + kManifest, whole = read_file(path);
  const auto forge = [&](const std::string& body, Exit code = Exit::data) {
    Hash hash;
    hash.add(body.data(), body.size());
    overwrite(path, body + ",\n \"xxh64\": \"" + hash.digits() + "\"\n}\n");
    return refusal(folder(3), code);
  };
  std::string body = whole.substr(0, whole.rfind(",\n \"xxh64\""));
  EXPECT_EQ(forge(body), "");
  EXPECT_EQ(read_file(path), whole);
  body.replace(body.find("\"version\": 1"), 12, "\"version\": 2");
  EXPECT_NE(forge(body, Exit::usage).find("is of version 2, but this program reads version 1"),
            std::string::npos);
  std::vector<std::string> warnings;
  EXPECT_THROW(newest_checkpoint(root_, warnings), Error) << "it is whole: no older one instead";
  EXPECT_NE(forge("{\"version\": 1").find("is no manifest"), std::string::npos);
  EXPECT_NE(forge("{\"version\": [").find("is no manifest"), std::string::npos);
  EXPECT_NE(forge("").find("is no manifest"), std::string::npos);
}

TEST_F(CheckpointTest, AStepUnderTheNameOfAnotherIsRefused) {
  write_checkpoint(root_, snapshot_of(3));
  std::filesystem::rename(folder(3), root_ + "/step-000000004");
  EXPECT_NE(refusal(folder(4)).find("is the checkpoint of step 3"), std::string::npos);
  std::filesystem::rename(folder(4), root_ + "/copy");
  EXPECT_EQ(refusal(root_ + "/copy"), "");
}

TEST_F(CheckpointTest, NewestIsTheNewestThatIsWhole) {
  std::vector<std::string> warnings;
  EXPECT_FALSE(newest_checkpoint(root_, warnings));
  for (const int step : {5, 20, 100}) write_checkpoint(root_, snapshot_of(step));
  std::filesystem::create_directories(root_ + "/step-000000300.part");
  std::filesystem::create_directories(root_ + "/step-0000000300");
  std::filesystem::create_directories(root_ + "/step-00000030x");
  overwrite(root_ + "/step-000000400", "a file");
  EXPECT_EQ(newest_checkpoint(root_, warnings)->step(), 100);
  EXPECT_TRUE(warnings.empty());

  const std::string weights = folder(100) + "/weights.safetensors";
  overwrite(weights, read_file(weights) + "x");
  std::filesystem::remove(folder(20) + "/manifest.json");
  const auto newest = newest_checkpoint(root_, warnings);
  ASSERT_TRUE(newest);
  expect_contents(*newest);
  EXPECT_EQ(newest->step(), 5);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0].rfind(weights + ": is damaged", 0), 0u) << warnings[0];
  EXPECT_EQ(warnings[1].rfind(folder(20) + "/manifest.json: cannot be read", 0), 0u) << warnings[1];
  for (const std::string& warning : warnings) {
    EXPECT_NE(warning.find("(that of step 5 is used)"), std::string::npos) << warning;
  }

  warnings.clear();
  std::filesystem::remove_all(folder(5));
  EXPECT_FALSE(newest_checkpoint(root_, warnings));
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("(there is none)"), std::string::npos) << warnings[0];
}

/// Runs `body` in a child that is killed after `calls` system calls; false where it had ended.
bool killed_after(int calls, const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) std::_Exit(1);
    ::raise(SIGSTOP);
    body();
    std::_Exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  for (int stop = 0; stop < 2 * calls && WIFSTOPPED(status); ++stop) {  // it stops before and after
    EXPECT_EQ(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    ::waitpid(child, &status, 0);
  }
  if (WIFEXITED(status)) {
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return false;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return true;
}

TEST_F(CheckpointTest, AKillAtAnyPlaceOfAReplacementCostsNothing) {
  write_checkpoint(root_, snapshot_of(7, 0.1));
  const std::string before = (run_ / "before").string();
  std::filesystem::rename(root_, before);
  const Snapshot snapshot = snapshot_of(7, 0.2);
  int old_ones = 0, new_ones = 0;
  for (int calls = 1;; ++calls) {
    std::filesystem::copy(before, root_, std::filesystem::copy_options::recursive);
    const bool killed = killed_after(calls, [&] { write_checkpoint(root_, snapshot); });
    for (const bool restarted : {false, true}) {
      if (restarted) remove_leftovers(root_);
      std::vector<std::string> warnings;
      const auto newest = newest_checkpoint(root_, warnings);
      ASSERT_TRUE(newest) << "killed after " << calls << " system calls";
      EXPECT_TRUE(warnings.empty()) << warnings[0];
      expect_contents(*newest);
      ++(newest->score() == 0.1 ? old_ones : new_ones);
    }
    ASSERT_EQ(names().size(), 1u) << testing::PrintToString(names());
    std::filesystem::remove_all(root_);
    if (!killed) break;
  }
  EXPECT_GT(old_ones, 20);  // a write takes more calls than that
  EXPECT_GT(new_ones, 2);   // there are some behind the last rename
}

TEST_F(CheckpointTest, AKillAtAnyPlaceOfARemovalLeavesNoDamagedOne) {
  write_checkpoint(root_, snapshot_of(7));
  write_checkpoint(root_, snapshot_of(8));
  const std::string before = (run_ / "before").string();
  std::filesystem::rename(root_, before);
  for (int calls = 1;; ++calls) {
    std::filesystem::copy(before, root_, std::filesystem::copy_options::recursive);
    const bool killed = killed_after(calls, [&] { remove_checkpoint(root_ + "/step-000000008"); });
    std::vector<std::string> warnings;
    ASSERT_TRUE(newest_checkpoint(root_, warnings));
    ASSERT_TRUE(warnings.empty()) << calls << ": " << warnings[0];
    if (!killed) break;
    std::filesystem::remove_all(root_);
  }
  EXPECT_EQ(names(), std::vector<std::string>{"step-000000007"});
}

TEST_F(CheckpointTest, WhatAKilledAttemptLeftIsInNobodysWay) {
  const std::string part = root_ + "/step-000000007.part";
  std::filesystem::create_directories(part);
  overwrite(part + "/stale", "x");
  write_checkpoint(root_, snapshot_of(7));
  EXPECT_FALSE(std::filesystem::exists(folder(7) + "/stale"));
  std::filesystem::create_directories(part);
  overwrite(part + "/stale", "x");
  remove_checkpoint(folder(7));
  EXPECT_TRUE(names().empty());
}

TEST_F(CheckpointTest, OneOfTheSameStepIsReplaced) {
  write_checkpoint(root_, snapshot_of(7, 0.1));
  write_checkpoint(root_, snapshot_of(7, 0.2));
  EXPECT_EQ(names(), std::vector<std::string>{"step-000000007"});
  EXPECT_EQ(Checkpoint(folder(7)).score(), 0.2);
}

TEST_F(CheckpointTest, OneThatSteppedAsideIsFoundAndCanBeReplaced) {
  write_checkpoint(root_, snapshot_of(6));
  write_checkpoint(root_, snapshot_of(7, 0.1));
  const std::string name = folder(7);
  std::filesystem::rename(name, name + ".old");  // a kill before the new one took its place
  std::filesystem::create_directories(name + ".part");
  remove_leftovers(root_);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-000000006", "step-000000007.old"}));
  std::vector<std::string> warnings;
  EXPECT_EQ(newest_checkpoint(root_, warnings)->folder(), name + ".old");
  EXPECT_TRUE(warnings.empty());

  write_checkpoint(root_, snapshot_of(7, 0.2));
  EXPECT_EQ(names(), (std::vector<std::string>{"step-000000006", "step-000000007"}));
  EXPECT_EQ(newest_checkpoint(root_, warnings)->score(), 0.2);

  std::filesystem::create_directories(name + ".old");  // a kill after it did
  EXPECT_EQ(folder(7), name);
  remove_leftovers(root_);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-000000006", "step-000000007"}));

  std::filesystem::rename(name, name + ".old");
  remove_checkpoint(name + ".old");
  EXPECT_EQ(names(), std::vector<std::string>{"step-000000006"});
}

}  // namespace
}  // namespace tunas::engine
