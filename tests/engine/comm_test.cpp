// Ranks as processes: sums against the tree computed in one process, messages, meeting among the
// files of dead attempts, and what the others say of a rank that is lost.
#include "engine/comm.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "engine/gloo.h"
#include "engine/rendezvous.h"
#include "engine/sums.h"
#include "tests/engine/processes.h"

namespace tunas::engine {
namespace {

class CommTest : public testing::Test {
 protected:
  CommTest() {
    if (!Gloo::built_in()) return;
    folder_ = std::filesystem::temp_directory_path() / ("tunas_comm_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~CommTest() override { std::filesystem::remove_all(folder_); }
  void SetUp() override {
    if (!Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  }

  GlooSetting setting(int rank, int size, Sums sums = Sums::fixed, double timeout = 30) const {
    return {rank, size, (folder_ / "rendezvous").string(), timeout, sums};
  }
  std::string file(const std::string& name) const {
    return (folder_ / "rendezvous" / name).string();
  }

  /// All ranks of `processes` end with 0.
  static void expect_all_well(Processes& processes, int size) {
    for (int r = 0; r < size; ++r) EXPECT_EQ(processes.code(r), 0) << r << processes.said(r);
  }

  std::filesystem::path folder_;
};

/// What rank `rank` brings: of mixed sizes, so that the order of additions shows.
std::vector<float> values(int rank, std::size_t count) {
  std::vector<float> all(count);
  std::uint32_t state = 12345u + 977u * static_cast<std::uint32_t>(rank);
  for (float& value : all) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) / 8388608.0f - 1.0f) * (state & 128 ? 1.0f : 1000.0f);
  }
  return all;
}

/// ((r0+r1)+(r2+r3))+... of ranks [begin, begin + ranks).
std::vector<float> tree(int begin, int ranks, std::size_t count) {
  if (ranks == 1) return values(begin, count);
  std::vector<float> left = tree(begin, ranks / 2, count);
  const std::vector<float> right = tree(begin + ranks / 2, ranks / 2, count);
  for (std::size_t i = 0; i < count; ++i) left[i] += right[i];
  return left;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

/// One rank of many, whose peers send what lies in its scratch; notes where additions begin.
class LoneLink final : public Link {
 public:
  LoneLink(int rank, int size, const float* data) : rank_(rank), size_(size), data_(data) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void exchange(const Exchange&) override {}
  void add(float* a, std::span<const float> b) override {
    EXPECT_EQ((a - data_) % static_cast<std::ptrdiff_t>(kSumAlign), 0) << rank_ << " of " << size_;
    added_ += b.size();
  }
  std::size_t added() const { return added_; }

 private:
  int rank_, size_;
  const float* data_;
  std::size_t added_ = 0;
};

TEST(Sums, FixedOnesAddWhereAGpuMayReadFourFloats) {
  for (const std::size_t count : {16u, 48u, 1'000'016u}) {
    std::vector<float> data(count), scratch(sum_scratch(count));
    for (const int ranks : {2, 8, 16, 64}) {
      for (int rank = 0; rank < ranks; ++rank) {
        LoneLink link(rank, ranks, data.data());
        sum(Sums::fixed, link, data, scratch.data());
        EXPECT_LT(link.added(), count + kSumAlign * 6);
      }
    }
  }
}

TEST(Sums, SharesThatCannotBeNameThoseThatCan) {
  const struct {
    Sums sums;
    int ranks, shards;
    const char* sentence;  // null: they can
  } cases[] = {
      {Sums::fixed, 1, 7, nullptr},
      {Sums::fixed, 4, 32, nullptr},
      {Sums::fast, 3, 6, nullptr},
      {Sums::fixed, 4, 6,
       "6 shards a step cannot be shared by 4 ranks evenly; use --shards 4 or 8, 1 rank"},
      {Sums::fixed, 2, 6,
       "6 shards a step cannot be shared by 2 ranks as parts of one binary tree; use --shards 4 or "
       "8, 1 rank, or --deterministic off"},
      {Sums::fast, 4, 6,
       "6 shards a step cannot be shared by 4 ranks evenly; use --shards 4 or 8, 3 or 6 ranks"},
      {Sums::fast, 4, 2,
       "2 shards a step cannot be shared by 4 ranks evenly; use --shards 4, 2 ranks"},
  };
  for (const auto& c : cases) {
    try {
      check_shards(c.sums, c.ranks, c.shards);
      EXPECT_EQ(c.sentence, nullptr) << c.ranks << " of " << c.shards;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      EXPECT_STREQ(error.what(), c.sentence);
    }
  }
}

TEST_F(CommTest, FixedSumsAreTheTreeBitForBit) {
  const std::vector<std::size_t> counts = {0, 1, 7, 1000003};
  for (int ranks : {1, 2, 4, 8}) {
    Processes processes(ranks, [&](int rank) {
      Gloo comm(setting(rank, ranks));
      std::vector<std::vector<float>> data;
      for (std::size_t count : counts) data.push_back(values(rank, count));
      for (auto& some : data) comm.start_sum(some.data(), some.size());  // several on their way
      comm.finish_sums();
      for (std::size_t i = 0; i < counts.size(); ++i) {
        if (!same_bits(data[i], tree(0, ranks, counts[i]))) {
          fail(Exit::numeric, counts[i], " floats of ", ranks, " ranks are not the tree's");
        }
      }
    });
    expect_all_well(processes, ranks);
  }
}

TEST_F(CommTest, TheTreeIsNotJustAnyOrder) {
  const std::vector<float> fixed = tree(0, 4, 1000);
  std::vector<float> chain = values(0, 1000);
  for (int r = 1; r < 4; ++r) {
    const std::vector<float> next = values(r, 1000);
    for (std::size_t i = 0; i < chain.size(); ++i) chain[i] += next[i];
  }
  EXPECT_FALSE(same_bits(fixed, chain));
}

TEST_F(CommTest, FastSumsOfThreeRanksAreRight) {
  Processes processes(3, [&](int rank) {
    Gloo comm(setting(rank, 3, Sums::fast));
    for (std::size_t count :
         {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{100003}}) {
      std::vector<float> data = values(rank, count);
      comm.start_sum(data.data(), count);
      comm.finish_sums();
      const std::vector<float> a = values(0, count), b = values(1, count), c = values(2, count);
      for (std::size_t i = 0; i < count; ++i) {
        const double exact = double(a[i]) + b[i] + c[i];
        const double size = std::abs(a[i]) + std::abs(b[i]) + std::abs(c[i]);
        if (!(std::abs(data[i] - exact) <= 2e-7 * size)) {
          fail(Exit::numeric, "element ", i, " is ", data[i], ", not ", exact);
        }
      }
      // The same bits everywhere, or replicas would drift apart.
      std::vector<float> all(3 * count);
      comm.all_gather(data.data(), all.data(), count * sizeof(float));
      for (std::size_t i = 0; i < 3 * count; ++i) {
        if (all[i] != data[i % count]) fail(Exit::numeric, "ranks differ at ", i);
      }
    }
  });
  expect_all_well(processes, 3);
}

TEST_F(CommTest, WaitingForSumsIsTold) {
  EXPECT_FALSE(solo().sum_seconds());
  const auto sleep = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
  Processes processes(2, [&](int rank) {
    Gloo comm(setting(rank, 2));
    // Rank 0 waits for a late peer: first in finish_sums(), then while it has something else to do.
    SumSeconds before;
    for (const bool hidden : {false, true}) {
      char mine = 0, all[2];
      comm.all_gather(&mine, all, 1);
      float one = 1;
      if (rank == 1) sleep(200);
      comm.start_sum(&one, 1);
      if (rank == 0 && hidden) sleep(400);
      comm.finish_sums();
      const SumSeconds now = comm.sum_seconds().value();
      const double busy = now.busy - before.busy, waited = now.waited - before.waited;
      before = now;
      if (rank == 1) continue;
      if (busy < 0.1) fail(Exit::numeric, "busy for ", busy, " s");
      if (!hidden && waited < 0.1) fail(Exit::numeric, "waited for ", waited, " s");
      if (hidden && busy - waited < 0.1) fail(Exit::numeric, "hidden were ", busy - waited, " s");
    }
  });
  expect_all_well(processes, 2);
}

TEST_F(CommTest, ThreeRanksHaveNoFixedTree) {
  Processes processes(3, [&](int rank) { Gloo comm(setting(rank, 3)); });
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(processes.code(r), 2);
    EXPECT_NE(processes.said(r).find("--deterministic off"), std::string::npos);
  }
}

TEST_F(CommTest, MessagesArrive) {
  Processes processes(4, [&](int rank) {
    Gloo comm(setting(rank, 4));
    const long mine = 100 + rank;
    long all[4] = {};
    comm.all_gather(&mine, all, sizeof mine);
    for (int r = 0; r < 4; ++r) {
      if (all[r] != 100 + r) fail(Exit::numeric, "all_gather: ", all[r], " of rank ", r);
    }
    for (int from = 0; from < 4; ++from) {
      std::string word = rank == from ? "abc" + std::to_string(from) : "----";
      comm.broadcast(word.data(), word.size(), from);
      if (word != "abc" + std::to_string(from)) fail(Exit::numeric, "broadcast: ", word);
    }
    comm.all_gather(nullptr, nullptr, 0);
  });
  expect_all_well(processes, 4);
}

TEST_F(CommTest, FilesOfDeadAttemptsDoNoHarm) {
  std::filesystem::create_directories(file("feedfeedfeedfeed"));
  write_file(file("feedfeedfeedfeed/go"), "");
  write_file(file("attempt"), "feedfeedfeedfeed\naaaa\nbbbb\ncccc\n");
  write_file(file("hello-0"), "aaaa");
  write_file(file("hello-1"), "bbbb");
  write_file(file("hello-2"), "cccc");
  write_file(file("ready-1"), "feedfeedfeedfeed");
  write_file(file("ready-2"), "feedfeedfeedfeed");
  for (int attempt = 0; attempt < 3;
       ++attempt) {  // over those left by attempts that went well, too
    Processes processes(3, [&](int rank) {
      // Late ones make the early ones see an attempt with the words of the dead.
      std::this_thread::sleep_for(std::chrono::milliseconds(60 * ((rank + attempt) % 3)));
      Gloo comm(setting(rank, 3, Sums::fast));
      float one = 1;
      comm.start_sum(&one, 1);
      comm.finish_sums();
      if (one != 3) fail(Exit::numeric, one);
    });
    expect_all_well(processes, 3);
  }
  EXPECT_FALSE(std::filesystem::exists(file("feedfeedfeedfeed")));
}

TEST_F(CommTest, RanksThatDoNotComeAreNamed) {
  Processes processes(2,
                      [&](int rank) { Gloo comm(setting(rank == 0 ? 0 : 2, 4, Sums::fixed, 4)); });
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(processes.code(r, 20), 5);
    EXPECT_NE(processes.said(r).find("ranks 1 and 3 of 4 did not come"), std::string::npos)
        << processes.said(r);
  }
}

TEST_F(CommTest, RankZeroThatDoesNotComeIsNamed) {
  Processes processes(1, [&](int) { Gloo comm(setting(1, 2, Sums::fixed, 0.5)); });
  EXPECT_EQ(processes.code(0, 20), 5);
  EXPECT_NE(processes.said(0).find("rank 0 of 2"), std::string::npos) << processes.said(0);
}

TEST_F(CommTest, ABrokenConnectionIsNoSignal) {
  Processes processes(2, [&](int rank) {
    Gloo comm(setting(rank, 2));
    int ends[2];
    require(::pipe(ends) == 0 && ::close(ends[0]) == 0, "no pipe");
    require(::write(ends[1], "x", 1) < 0 && errno == EPIPE, "a pipe without a reader was written");
  });
  expect_all_well(processes, 2);
}

/// Three ranks of which `lost` gets a signal while all wait for a sum that it never gives; the
/// others end with 5 and name it.
class LossTest : public CommTest {
 protected:
  static constexpr double kTimeout = 1;

  void expect_named(int lost, int signal) {
    Processes processes(3, [&](int rank) {
      Gloo comm(setting(rank, 3, Sums::fast, kTimeout));
      if (rank == lost) {
        write_file(file("here"), "");
        while (true) ::pause();
      }
      float one = 1;
      comm.start_sum(&one, 1);
      comm.finish_sums();
    });
    await(file("here"));
    processes.signal(lost, signal);
    for (int r = 0; r < 3; ++r) {
      if (r == lost) continue;
      EXPECT_EQ(processes.code(r, 20), 5) << r;
      const std::string said = processes.said(r);
      EXPECT_EQ(said.rfind("error: rank " + std::to_string(lost) + " of 3 is lost", 0), 0u) << said;
      EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    }
  }

  static void await(const std::string& path) {
    for (int i = 0; i < 3000 && !std::filesystem::exists(path); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(std::filesystem::exists(path));
  }
};

TEST_F(LossTest, AKilledPeerIsNamed) { expect_named(2, SIGKILL); }
TEST_F(LossTest, AKilledRankZeroIsNamed) { expect_named(0, SIGKILL); }
TEST_F(LossTest, AStoppedPeerIsNamed) { expect_named(1, SIGSTOP); }
TEST_F(LossTest, AStoppedRankZeroIsNamed) { expect_named(0, SIGSTOP); }

TEST_F(LossTest, RankZeroThatHearsNobodyNamesItself) {
  Processes processes(3, [&](int rank) {
    Gloo comm(setting(rank, 3, Sums::fast, kTimeout));
    if (rank != 0) {
      write_file(file("here-" + std::to_string(rank)), "");
      while (true) ::pause();
    }
    float one = 1;
    comm.start_sum(&one, 1);
    comm.finish_sums();
  });
  for (const char* rank : {"here-1", "here-2"}) await(file(rank));
  for (const int rank : {1, 2}) processes.signal(rank, SIGSTOP);
  EXPECT_EQ(processes.code(0, 20), 5);
  EXPECT_EQ(processes.said(0).rfind("error: rank 0 of 3 is lost", 0), 0u) << processes.said(0);
}

TEST_F(LossTest, APeersOwnErrorKeepsItsCode) {
  for (int failing : {0, 1}) {
    Processes processes(2, [&](int rank) {
      Gloo comm(setting(rank, 2));
      if (rank == failing) fail(Exit::data, "a.jpg: is no image");
      float one = 1;
      comm.start_sum(&one, 1);
      comm.finish_sums();
    });
    EXPECT_EQ(processes.code(failing, 20), 3);
    EXPECT_EQ(processes.said(failing), "error: a.jpg: is no image\n");
    EXPECT_EQ(processes.code(1 - failing, 20), 5);
    EXPECT_NE(processes.said(1 - failing).find("rank " + std::to_string(failing) + " of 2"),
              std::string::npos);
  }
}

TEST_F(CommTest, AnErrorOfAllIsSaidByEach) {
  for (const int first : {0, 1}) {  // to end, the others a little later
    Processes processes(4, [&](int rank) {
      Gloo comm(setting(rank, 4));
      std::this_thread::sleep_for(std::chrono::milliseconds(rank == first ? 0 : 100));
      fail(Exit::numeric, "the same on rank ", rank);
    });
    for (int rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(processes.code(rank), 6) << processes.said(rank);
      EXPECT_EQ(processes.said(rank), "error: the same on rank " + std::to_string(rank) + "\n");
    }
  }
}

TEST_F(CommTest, ALongStepIsNoLoss) {
  Processes processes(2, [&](int rank) {
    Gloo comm(setting(rank, 2, Sums::fixed, 1));
    if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    float one = 1;
    comm.start_sum(&one, 1);
    comm.finish_sums();
    if (one != 2) fail(Exit::numeric, one);
    // One that has finished is no loss, either: the other waits for it to leave.
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  });
  expect_all_well(processes, 2);
}

}  // namespace
}  // namespace tunas::engine
