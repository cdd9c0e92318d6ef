// The index of an archive: what is kept, when it is trusted, and that making it reads no image.
#include "data/index.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "data/archives.h"
#include "data/tar.h"
#include "data/tfrecord.h"
#include "tests/data/examples.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using namespace testing;

StoredIndex small_index() {
  StoredIndex stored{1, {1000, -5, 7, 9}, {}};
  stored.index.add("a/b", 512, 100, 3);
  stored.index.add("", 0, 1000, kMaxClasses - 1);
  stored.index.add("c", 1000, 0, 0);
  return stored;
}

TEST(IndexFile, ComesBackAsItWas) {
  const StoredIndex stored = small_index();
  const StoredIndex read = parse_index(index_bytes(stored), "i");
  EXPECT_EQ(read.format, 1u);
  EXPECT_EQ(read.of, stored.of);
  EXPECT_EQ(read.index.offsets, stored.index.offsets);
  EXPECT_EQ(read.index.sizes, stored.index.sizes);
  EXPECT_EQ(read.index.labels, stored.index.labels);
  EXPECT_EQ(read.index.keys[0], "a/b");
  EXPECT_EQ(read.index.keys[1], "");
  EXPECT_EQ(read.index.keys[2], "c");
  EXPECT_EQ(parse_index(index_bytes({2, {}, {}}), "i").index.size(), 0u);
}

TEST(IndexFile, EveryFlippedBitAndTruncationIsRefused) {
  const Bytes good = index_bytes(small_index());
  for (std::size_t i = 0; i < 8 * good.size(); ++i) {
    Bytes bad = good;
    bad[i / 8] ^= static_cast<std::uint8_t>(1 << i % 8);
    EXPECT_SAYS(sentence([&] { parse_index(bad, "a.index"); }), "a.index: ");
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_SAYS(sentence([&] { parse_index(std::span(good).first(size), "a.index"); }),
                "remove it");
  }
}

TEST(IndexFile, NumbersBeyondTheArchiveAreRefusedThoughTheChecksumHolds) {
  const auto says = [](auto change) {
    StoredIndex stored = small_index();
    change(stored);
    return sentence([&] { parse_index(index_bytes(stored), "i"); });
  };
  const std::string nonsense = "i: its numbers make no sense";
  EXPECT_SAYS(says([](StoredIndex& s) { s.of.size = 999; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.sizes[0] = 489; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.offsets[2] = 1001; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.offsets[0] = ~std::uint64_t{0}; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.labels[1] = kMaxClasses; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.labels[1] = -1; }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.keys = Names("abbc", {3, 2, 4}); }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.keys = Names("abbc", {3, 9, 4}); }), nonsense);
  EXPECT_SAYS(says([](StoredIndex& s) { s.index.keys = Names("abbc", {1, 2, 3}); }), nonsense);
}

// ---- kept beside the archive

class KeptIndex : public ::testing::Test {
 protected:
  KeptIndex() {
    ::setenv("XDG_CACHE_HOME", folder_.path("cache").c_str(), 1);
    folder_.write("a.tar", make_tar(3));
    folder_.write("b.tar", make_tar(2));
  }
  ~KeptIndex() override { ::unsetenv("XDG_CACHE_HOME"); }

  Records open(Reuse reuse = Reuse::stored) {
    Indexing indexing;
    indexing.reuse = reuse;
    indexing.keep_from_bytes = 0;
    return open_archives(kTar, folder_.path("*.tar*"), indexing, &reports_);
  }
  std::vector<bool> reused() const {
    std::vector<bool> all;
    for (const IndexReport& report : reports_) all.push_back(report.reused);
    return all;
  }

  Folder folder_;
  std::vector<IndexReport> reports_;
};

using Flags = std::vector<bool>;

TEST_F(KeptIndex, IsUsedAndGivesTheSameRecords) {
  const Records first = open();
  EXPECT_EQ(reused(), (Flags{false, false}));
  EXPECT_EQ(reports_[0].index, folder_.path("a.tar.index"));
  const Records second = open();  // the indices match the pattern, too
  EXPECT_EQ(reused(), (Flags{true, true}));
  EXPECT_EQ(reports_[1].samples, 2);
  ASSERT_EQ(second.size(), 5);
  EXPECT_EQ(second.labels, first.labels);
  Records::Scratch scratch;
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(second.name(i), first.name(i));
    const auto a = first.read(i, scratch).bytes, b = second.read(i, scratch).bytes;
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
  open(Reuse::fresh);
  EXPECT_EQ(reused(), (Flags{false, false}));
}

TEST_F(KeptIndex, OfAnArchiveThatChangedIsMadeAgain) {
  open();
  Bytes tar = make_tar(3);
  tar[600] ^= 1;  // within the first image: same size, and we set the same time
  const auto time = std::filesystem::last_write_time(folder_.path("a.tar"));
  folder_.write("a.tar", tar);
  std::filesystem::last_write_time(folder_.path("a.tar"), time);
  open();
  EXPECT_EQ(reused(), (Flags{false, true})) << "another head";
  std::filesystem::last_write_time(folder_.path("b.tar"), time + std::chrono::nanoseconds(10));
  open();
  EXPECT_EQ(reused(), (Flags{true, false})) << "another time";
  folder_.write("a.tar", make_tar(4));
  EXPECT_EQ(open().size(), 6);
  EXPECT_EQ(reused(), (Flags{false, true})) << "another size";
}

TEST_F(KeptIndex, ThatIsDamagedOrOfAnotherFormatIsMadeAgain) {
  open();
  Bytes index = index_bytes(
      {kTfrecord.code, fingerprint(MappedFile(folder_.path("a.tar"))), small_index().index});
  folder_.write("a.tar.index", index);
  EXPECT_EQ(open().size(), 5);
  EXPECT_EQ(reused(), (Flags{false, true}));
  folder_.write("a.tar.index", bytes_of("not an index"));
  EXPECT_EQ(open().size(), 5);
  EXPECT_EQ(reused(), (Flags{false, true}));
  open();
  EXPECT_EQ(reused(), (Flags{true, true}));
}

TEST_F(KeptIndex, GoesToTheCacheWhereTheFolderCannotBeWritten) {
  // Root may write anywhere; a folder in the way stops even root.
  std::filesystem::create_directories(folder_.path("a.tar.index.part"));
  open();
  EXPECT_EQ(reports_[0].index, index_in_cache(folder_.path("a.tar")));
  EXPECT_TRUE(reports_[0].index.starts_with(folder_.path("cache/tunas/a.tar-")));
  EXPECT_EQ(reports_[1].index, folder_.path("b.tar.index"));
  open();
  EXPECT_EQ(reused(), (Flags{true, true}));
  EXPECT_NE(index_in_cache("/x/a.tar"), index_in_cache("/y/a.tar"));
  std::filesystem::remove_all(folder_.path("cache"));
  folder_.write("cache", bytes_of("a file in the way"));
  EXPECT_EQ(open().size(), 5);
  EXPECT_EQ(reports_[0].index, "") << "nowhere to keep it is no error";
}

TEST_F(KeptIndex, SmallArchivesAreWalkedAndKeepNone) {
  open_archives(kTar, folder_.path("*.tar"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path("a.tar.index")));
}

TEST_F(KeptIndex, TheFirstBadArchiveIsNamedAndProgressCanEndIt) {
  Bytes bad = make_tar(2);
  bad[3] ^= 1;
  folder_.write("b.tar", bad);
  folder_.write("c.tar", bad);
  EXPECT_SAYS(sentence([&] { open(); }), folder_.path("b.tar") + ": not a tar header");
  Indexing indexing;
  indexing.progress = [](std::int64_t, std::int64_t files) {
    fail(Exit::interrupted, "of ", files);
  };
  EXPECT_EQ(
      sentence([&] { open_archives(kTar, folder_.path("*.tar"), indexing); }, Exit::interrupted),
      "of 3");
}

// ---- without reading images

/// A copy of `bytes` in which nobody may touch the whole pages of [begin, end).
class Forbidden {
 public:
  Forbidden(const Bytes& bytes, std::size_t begin, std::size_t end) : size_(bytes.size()) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    data_ = static_cast<std::uint8_t*>(
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memcpy(data_, bytes.data(), size_);
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    EXPECT_LT(begin, end);
    EXPECT_EQ(::mprotect(data_ + begin, end - begin, PROT_NONE), 0);
  }
  ~Forbidden() { ::munmap(data_, size_); }
  ByteSpan bytes() const { return {data_, size_}; }

 private:
  std::uint8_t* data_;
  std::size_t size_;
};

TEST(Indexing, TouchesNoImageOfATar) {
  Bytes tar;
  add_member(tar, "k.jpg", Bytes(100'000, 'J'));
  add_member(tar, "k.cls", bytes_of("7"));
  end_archive(tar);
  const Forbidden file(tar, 512, 100'512);
  const Index index = kTar.index(file.bytes(), "a.tar");
  ASSERT_EQ(index.size(), 1u);
  EXPECT_EQ(index.labels[0], 7);
}

TEST(Indexing, TouchesNoImageOfATfrecord) {
  const Bytes file = tfrecord_of(example_of(Bytes(100'000, 'J'), 7, "k"));
  const Forbidden forbidden(file, 100, 100'000);
  const Index index = kTfrecord.index(forbidden.bytes(), "a");
  ASSERT_EQ(index.size(), 1u);
  EXPECT_EQ(index.labels[0], 7);
  EXPECT_EQ(index.keys[0], "k");
}

}  // namespace
}  // namespace tunas::data
