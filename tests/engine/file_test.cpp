// Files that are complete or absent: renamed writes, whole lines, lines that go on where an earlier
// process left them, and a disk that is full.
#include "engine/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "kernels/error.h"
#include "tests/engine/full_disk.h"

namespace tunas::engine {
namespace {

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
  lines.write("a line");  // short enough, and right behind the first
  EXPECT_EQ(read_file(path("m.jsonl")), "the first line\na line\n");
}

TEST_F(FileTest, LinesGoOnAfterTheBytesThatAreKept) {
  write_file(path("m.jsonl"), "one\ntwo\nthr");
  {
    LineFile lines(path("m.jsonl"), 4);
    EXPECT_EQ(read_file(path("m.jsonl")), "one\n");
    lines.write("2");
    EXPECT_EQ(lines.bytes(), 6);
  }
  EXPECT_EQ(read_file(path("m.jsonl")), "one\n2\n");
  LineFile(path("m.jsonl"), 0).write("1");
  EXPECT_EQ(read_file(path("m.jsonl")), "1\n");
}

TEST_F(FileTest, LinesThatAreNotThereCannotGoOn) {
  const auto refusal = [&](const std::string& file, std::int64_t keep) {
    try {
      LineFile lines(file, keep);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::data);
      EXPECT_EQ(std::string(error.what()).rfind(file, 0), 0u) << error.what();
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string text = "one\ntwo\n";
  write_file(path("m.jsonl"), text);
  EXPECT_NE(refusal(path("m.jsonl"), 9).find("has 8 bytes"), std::string::npos);
  EXPECT_NE(refusal(path("m.jsonl"), 5).find("no line that ends at byte 5"), std::string::npos);
  EXPECT_EQ(read_file(path("m.jsonl")), text);
  EXPECT_NE(refusal(path("absent"), 0).find("cannot be opened"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("absent")));
  EXPECT_NE(refusal("/dev/null", 0).find("no plain file"), std::string::npos);
}

TEST_F(FileTest, PiecesAreTheFile) {
  std::string text(600'001, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i % 251);
  write_file(path("f"), text);
  std::string read;
  int pieces = 0;
  read_pieces(path("f"), [&](std::string_view piece) {
    read += piece;
    ++pieces;
  });
  EXPECT_EQ(read, text);
  EXPECT_GT(pieces, 1);
}

TEST_F(FileTest, FilesAndFoldersAreSynced) {
  write_file(path("f"), "x");
  sync_path(path("f"));
  sync_path(folder_.string());
  EXPECT_THROW(sync_path(path("absent")), Error);
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
