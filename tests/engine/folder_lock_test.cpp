// The lock of a folder: one process has it, and a dead one leaves nothing in the way.
#include "engine/folder_lock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "tests/engine/processes.h"

namespace tunas::engine {
namespace {

class FolderLockTest : public testing::Test {
 protected:
  FolderLockTest() {
    folder_ =
        (std::filesystem::temp_directory_path() / ("tunas_lock_" + std::to_string(::getpid())))
            .string();
    std::filesystem::create_directories(folder_);
  }
  ~FolderLockTest() override { std::filesystem::remove_all(folder_); }

  /// The sentence with which a lock is refused; empty where it is had.
  std::string refusal() const {
    try {
      const FolderLock lock(folder_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      return error.what();
    }
    return "";
  }

  std::string folder_;
};

TEST_F(FolderLockTest, AnotherProcessKeepsItUntilItIsKilled) {
  Processes other(1, [&](int) {
    const FolderLock lock(folder_);
    write_file(folder_ + "/held", std::to_string(::getpid()));
    while (true) ::pause();
  });
  while (!std::filesystem::exists(folder_ + "/held")) {
    ASSERT_EQ(other.code(0, 0.01), Processes::kRunning) << other.said(0);
  }
  const std::string sentence = refusal();
  EXPECT_EQ(sentence.rfind(folder_ + ": process " + read_file(folder_ + "/held") + " on ", 0), 0u)
      << sentence;
  other.signal(0, SIGKILL);
  ASSERT_EQ(other.code(0), -SIGKILL);
  EXPECT_EQ(refusal(), "");
}

TEST_F(FolderLockTest, OneProcessHasItOnceAndGivesItBack) {
  {
    const FolderLock lock(folder_);
    EXPECT_NE(refusal(), "");
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(FolderLockTest, AFileThatWasLeftIsNoLock) {
  write_file(folder_ + "/lock", "process 1 on a machine that is gone, with a long name");
  const FolderLock lock(folder_);
  EXPECT_EQ(read_file(folder_ + "/lock").rfind("process " + std::to_string(::getpid()) + " on ", 0),
            0u);
  EXPECT_EQ(read_file(folder_ + "/lock").find("gone"), std::string::npos);
}

TEST_F(FolderLockTest, AFolderThatIsNotThereIsAnErrorOfData) {
  try {
    const FolderLock lock(folder_ + "/absent");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data);
  }
}

}  // namespace
}  // namespace tunas::engine
