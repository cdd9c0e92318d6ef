// Files that are complete or absent: renamed writes, whole lines, and a disk that is full (a limit
// on the size of files stands in for it: the system refuses the write in the same place).
#include "engine/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

/// No file may grow beyond `bytes` while this lives.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

class FileTest : public testing::Test {
 protected:
  FileTest() {
    folder_ = std::filesystem::temp_directory_path() / ("tunas_file_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~FileTest() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(FileTest, FullDiskKeepsWholeLines) {
  LineFile lines(path("m.jsonl"));
  const FullDisk full(25);
  lines.write("the first line");
  try {
    lines.write("the second line");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data);
    EXPECT_EQ(std::string(error.what()).rfind(path("m.jsonl"), 0), 0u);
  }
  EXPECT_EQ(read_file(path("m.jsonl")), "the first line\n");
}

TEST_F(FileTest, FullDiskKeepsTheFileBefore) {
  write_file(path("arch.json"), "old");
  {
    const FullDisk full(10);
    EXPECT_THROW(write_file(path("arch.json"), std::string(100, 'x')), Error);
  }
  EXPECT_EQ(read_file(path("arch.json")), "old");
  EXPECT_FALSE(std::filesystem::exists(path("arch.json.part")));
}

TEST_F(FileTest, DeviceThatIsFull) {
  LineFile lines("/dev/full");
  EXPECT_THROW(lines.write("x"), Error);
}

TEST_F(FileTest, OnlyPlainFilesThatMayBeWrittenAreReplaced) {
  write_file((folder_ / "real").string(), "old");
  std::filesystem::create_symlink("real", folder_ / "link");
  write_file((folder_ / "link").string(), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file((folder_ / "real").string()), "new");
  const auto refusal = [](const std::string& path) {
    try {
      NewFile file(path);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_NE(refusal(folder_.string()).find("no plain file"), std::string::npos);
  EXPECT_NE(refusal("/dev/null").find("no plain file"), std::string::npos);
  std::filesystem::permissions(folder_ / "real", std::filesystem::perms::owner_read);
  EXPECT_NE(refusal((folder_ / "real").string()).find("read-only"), std::string::npos);
}

TEST_F(FileTest, ReadFileHasALimitAndAReason) {
  write_file(path("f"), "12345");
  EXPECT_EQ(read_file(path("f"), 5), "12345");
  EXPECT_THROW(read_file(path("f"), 4), Error);
  EXPECT_THROW(read_file(path("absent")), Error);
  EXPECT_THROW(read_file(folder_.string()), Error);
}

}  // namespace
}  // namespace tunas::engine
