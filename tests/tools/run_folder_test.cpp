// The run folder protects what is there; the status line and the clock read as they should.
#include "tools/run_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "engine/file.h"
#include "kernels/error.h"
#include "tools/progress.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;
using Existing = RunFolder::Existing;

class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest() {
    folder_ = fs::temp_directory_path() / ("tunas_run_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  ~RunFolderTest() override { fs::remove_all(folder_); }
  std::string path(const char* name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

TEST_F(RunFolderTest, IsMadeOnlyWhenAsked) {
  const RunFolder run(path("a/b"), Existing::refuse);
  EXPECT_FALSE(fs::exists(path("a")));
  run.create();
  EXPECT_TRUE(fs::is_directory(path("a/b")));
  EXPECT_NO_THROW(RunFolder(path("a/b"), Existing::refuse)) << "an empty folder is fine";
}

TEST_F(RunFolderTest, RanksThatWaitInItAreNoRun) {
  fs::create_directories(path("a/rendezvous"));
  EXPECT_NO_THROW(RunFolder(path("a"), Existing::refuse));
  engine::write_file(path("a/b"), "");
  EXPECT_THROW(RunFolder(path("a"), Existing::refuse), Error);
}

TEST_F(RunFolderTest, ALockIsNoRunToResume) {
  fs::create_directories(path("a"));
  engine::write_file(path("a/lock"), "1");
  EXPECT_TRUE(RunFolder(path("a"), Existing::resume).empty());
  EXPECT_TRUE(RunFolder(path("none"), Existing::resume).empty());
  engine::write_file(path("a/config.json"), "{}");
  EXPECT_FALSE(RunFolder(path("a"), Existing::resume).empty());
  fs::remove(path("a/config.json"));
  engine::write_file(path("a/notes.txt"), "");
  EXPECT_THROW(RunFolder(path("a"), Existing::resume), Error);
}

TEST_F(RunFolderTest, ARunKilledAtItsVeryStartIsNone) {
  fs::create_directories(path("a/checkpoints"));
  engine::write_file(path("a/lock"), "1");
  engine::write_file(path("a/config.json.part"), "{");
  EXPECT_TRUE(RunFolder(path("a"), Existing::resume).empty());
  EXPECT_NO_THROW(RunFolder(path("a"), Existing::refuse));
  fs::create_directories(path("a/checkpoints/step-000000001"));
  EXPECT_THROW(RunFolder(path("a"), Existing::resume), Error);
}

TEST_F(RunFolderTest, IsKnownAsARunsUntilItIsCleared) {
  fs::create_directories(path("a/weights_last.safetensors/x"));  // cannot be removed
  for (const char* name : {"a/config.json", "a/arch.json"}) engine::write_file(path(name), "{}");
  EXPECT_THROW(RunFolder(path("a"), Existing::overwrite).clear(), Error);
  EXPECT_FALSE(fs::exists(path("a/arch.json")));
  EXPECT_FALSE(RunFolder(path("a"), Existing::resume).empty());
}

TEST_F(RunFolderTest, RefusesWhatIsThere) {
  fs::create_directories(path("a"));
  engine::write_file(path("a/config.json"), "{}");
  try {
    RunFolder(path("a"), Existing::refuse);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    EXPECT_NE(std::string(error.what()).find("--overwrite"), std::string::npos);
  }
  EXPECT_THROW(RunFolder(path("a/config.json"), Existing::overwrite), Error);
}

TEST_F(RunFolderTest, OverwriteRemovesOnlyFilesOfARun) {
  fs::create_directories(path("a"));
  for (const char* name : {"a/config.json", "a/weights.safetensors.part", "a/notes.txt"}) {
    engine::write_file(path(name), "x");
  }
  RunFolder(path("a"), Existing::overwrite).clear();
  EXPECT_FALSE(fs::exists(path("a/config.json")));
  EXPECT_FALSE(fs::exists(path("a/weights.safetensors.part")));
  EXPECT_TRUE(fs::exists(path("a/notes.txt")));
}

TEST_F(RunFolderTest, SaysWhyItCannotBeMade) {
  try {
    RunFolder("/proc/no/such/place", Existing::refuse).create();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data);
    EXPECT_EQ(std::string(error.what()).rfind("/proc/no/such/place: cannot be created", 0), 0u);
  }
}

TEST(ProgressTest, Durations) {
  EXPECT_EQ(duration(0.4), "0s");
  EXPECT_EQ(duration(59.4), "59s");
  EXPECT_EQ(duration(75), "1m15s");
  EXPECT_EQ(duration(4000), "1h06m");
}

TEST(ProgressTest, LineShowsShareSpeedAndRemainingTime) {
  Progress progress(std::make_shared<Terminal>(Terminal::Kind::plain), 200);
  progress.step(1, 50, {0.5, 0.01}, [] { return std::string("reward 0.5"); });
  EXPECT_EQ(progress.line(50, "reward 0.5"),
            "[##........]  50/200  ETA 1m15s  100 images/s  reward 0.5");
  progress.step(2, 50, {0.5, 0.25}, [] { return std::string("reward 0.5"); });
  EXPECT_EQ(progress.line(50, "reward 0.5"),
            "[##........]  50/200  ETA 1m15s  100 images/s  26% loading  reward 0.5");
}

}  // namespace
}  // namespace tunas::tools
