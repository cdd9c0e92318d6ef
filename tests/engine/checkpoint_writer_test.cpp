// Checkpoints of a run that goes on: which stay, that a save does not hold up the run, and what a
// kill, a full disk or a missing folder cost, which is never an earlier checkpoint.
#include "engine/checkpoint_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <future>
#include <new>
#include <random>

#include "engine/file.h"
#include "kernels/error.h"
#include "tests/engine/full_disk.h"
#include "tests/engine/processes.h"
#include "tests/engine/snapshots.h"

namespace tunas::engine {
namespace {

using Steps = std::vector<std::int64_t>;

class CheckpointWriterTest : public CheckpointFolder {
 protected:
  Steps steps() const {
    Steps all;
    for (const auto& [step, folder] : list_checkpoints(root_)) all.push_back(step);
    return all;
  }
  void save(CheckpointWriter& writer, std::int64_t step, std::optional<double> score = {}) const {
    writer.save(snapshot_of(step, score));
    writer.wait();
  }
};

TEST_F(CheckpointWriterTest, TheLastAndTheBestStay) {
  CheckpointWriter writer(root_, 2);
  save(writer, 1, 0.3);
  save(writer, 2, 0.7);
  save(writer, 3, 0.5);
  EXPECT_EQ(steps(), (Steps{2, 3}));
  save(writer, 4);
  save(writer, 5, -1);
  EXPECT_EQ(steps(), (Steps{2, 4, 5}));
  save(writer, 6, 0.7);  // of equals the newest
  EXPECT_EQ(steps(), (Steps{5, 6}));
  save(writer, 7);
  save(writer, 8);
  EXPECT_EQ(steps(), (Steps{6, 7, 8}));
  EXPECT_TRUE(writer.take_warnings().empty());
}

TEST_F(CheckpointWriterTest, WithoutScoresTheLastThreeStay) {
  CheckpointWriter writer(root_);
  for (int step = 1; step <= 5; ++step) save(writer, step);
  EXPECT_EQ(steps(), (Steps{3, 4, 5}));
  EXPECT_THROW(CheckpointWriter(root_, 0), Error);
}

TEST_F(CheckpointWriterTest, TheBestIsKnownAfterARestart) {
  {
    CheckpointWriter writer(root_, 1);
    save(writer, 1, 0.9);
    save(writer, 2, 0.1);
  }
  CheckpointWriter writer(root_, 1);
  save(writer, 3, 0.2);
  EXPECT_EQ(steps(), (Steps{1, 3}));
}

TEST_F(CheckpointWriterTest, DamagedOnesDoNotCount) {
  CheckpointWriter writer(root_, 2);
  for (int step = 1; step <= 2; ++step) save(writer, step);
  write_file(list_checkpoints(root_).at(2) + "/" + kManifest, "{}");
  save(writer, 3);
  EXPECT_EQ(steps(), (Steps{1, 3}));
}

TEST_F(CheckpointWriterTest, OnlyCheckpointsAreTouched) {
  const std::vector<std::string> others = {"best", "step-000000001.bak", "step-1",
                                           "step-0000000001", "step-00000000a"};
  for (const std::string& name : others) std::filesystem::create_directories(root_ + "/" + name);
  std::filesystem::create_directories(root_ + "/step-000000001.part");
  CheckpointWriter writer(root_, 1);
  save(writer, 1);
  save(writer, 2);
  writer.remove_after(-1);
  std::vector<std::string> left = names();
  EXPECT_TRUE(std::is_permutation(left.begin(), left.end(), others.begin(), others.end()))
      << testing::PrintToString(left);
}

TEST_F(CheckpointWriterTest, TheNextSaveRemovesWhatAFailedOneLeft) {
  CheckpointWriter writer(root_);
  std::filesystem::create_directories(root_ + "/step-000000001.part");
  save(writer, 2);
  EXPECT_EQ(names(), std::vector<std::string>{"step-000000002"});
}

TEST_F(CheckpointWriterTest, GoingBackRemovesWhatIsLater) {
  CheckpointWriter writer(root_, 5);
  for (const int step : {1, 2, 3, 4}) save(writer, step);
  writer.save(snapshot_of(5));
  writer.remove_after(2);
  EXPECT_EQ(steps(), (Steps{1, 2}));
  EXPECT_EQ(names().size(), 2u);
}

TEST_F(CheckpointWriterTest, LaterOnesDoNotPushOutANewOne) {
  {
    CheckpointWriter writer(root_);
    for (const int step : {100, 200, 300}) save(writer, step);
  }
  CheckpointWriter writer(root_, 1);
  save(writer, 10);
  save(writer, 20);
  EXPECT_EQ(steps(), (Steps{20, 100, 200, 300}));
}

TEST_F(CheckpointWriterTest, ASaveDoesNotHoldUpTheRun) {
  const std::string fifo = (run_ / "fifo").string();  // opening it to read waits for its writer
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  CheckpointWriter writer(root_);
  Snapshot snapshot = snapshot_of(1);
  snapshot.sync_first = {fifo};
  std::promise<void> returned;
  std::thread other([&] {
    EXPECT_EQ(returned.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    int descriptor = -1;  // without a reader it cannot be opened so
    for (int i = 0; i < 10'000 && descriptor < 0; ++i) {
      descriptor = ::open(fifo.c_str(), O_WRONLY | O_NONBLOCK);
      if (descriptor < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_GE(descriptor, 0);
    ::close(descriptor);
  });
  writer.save(std::move(snapshot));
  EXPECT_TRUE(steps().empty());
  returned.set_value();
  other.join();
  writer.wait();
  EXPECT_EQ(steps(), Steps{1});
  EXPECT_TRUE(writer.take_warnings().empty());
}

TEST_F(CheckpointWriterTest, SavesThatHaveEndedAreTimed) {
  CheckpointWriter writer(root_);
  EXPECT_EQ(writer.seconds(), 0);
  save(writer, 1);
  const double first = writer.seconds();
  EXPECT_GT(first, 0);
  save(writer, 2);
  EXPECT_GT(writer.seconds(), first);
}

TEST_F(CheckpointWriterTest, ADestructorWaits) {
  CheckpointWriter(root_).save(snapshot_of(1, {}, 100'000));
  expect_contents(Checkpoint(list_checkpoints(root_).at(1)), 100'000);
}

TEST_F(CheckpointWriterTest, AFullDiskIsAWarningAndTheNextSaveSucceeds) {
  CheckpointWriter writer(root_, 1);
  save(writer, 1);
  {
    const FullDisk full(4096);
    for (const int step : {2, 3}) {
      writer.save(snapshot_of(step, {}, 8192));
      writer.wait();
    }
  }
  EXPECT_EQ(names(), std::vector<std::string>{"step-000000001"});
  expect_contents(Checkpoint(list_checkpoints(root_).at(1)));
  const std::vector<std::string> warnings = writer.take_warnings();
  ASSERT_EQ(warnings.size(), 1u);  // of two equal failures
  EXPECT_EQ(
      warnings[0].rfind(root_ + "/step-000000002.part/weights.safetensors: cannot be written", 0),
      0u)
      << warnings[0];
  EXPECT_NE(warnings[0].find("(there is no checkpoint of step 2, the run goes on"),
            std::string::npos)
      << warnings[0];
  save(writer, 4);
  EXPECT_EQ(steps(), Steps{4});
  EXPECT_TRUE(writer.take_warnings().empty());
  {
    const FullDisk full(4096);
    writer.save(snapshot_of(5, {}, 8192));
    writer.wait();
  }
  EXPECT_EQ(writer.take_warnings().size(), 1u);  // a failure after a success is news
  EXPECT_EQ(steps(), Steps{4});
}

TEST_F(CheckpointWriterTest, AFolderThatIsGoneIsAWarning) {
  CheckpointWriter writer(root_);
  save(writer, 1);
  const std::string aside = (run_ / "aside").string();
  std::filesystem::rename(root_, aside);
  write_file(root_, "a file");
  save(writer, 2);
  std::filesystem::remove(root_);
  std::filesystem::rename(run_, run_.string() + "_gone");
  save(writer, 3);
  std::filesystem::rename(run_.string() + "_gone", run_);
  EXPECT_EQ(writer.take_warnings().size(), 2u);  // for two reasons
  std::filesystem::rename(aside, root_);
  save(writer, 4);
  EXPECT_EQ(steps(), (Steps{1, 4}));
  EXPECT_TRUE(writer.take_warnings().empty());
}

TEST_F(CheckpointWriterTest, WhatIsToBeSyncedMustBeThere) {
  CheckpointWriter writer(root_);
  Snapshot snapshot = snapshot_of(1);
  snapshot.sync_first = {(run_ / "metrics.jsonl").string()};
  writer.save(std::move(snapshot));
  writer.wait();
  const std::vector<std::string> warnings = writer.take_warnings();
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("metrics.jsonl: cannot be read"), std::string::npos) << warnings[0];
  EXPECT_TRUE(names().empty());
}

/// A number that parent and children share.
class SharedStep {
 public:
  SharedStep()
      : step_(new (::mmap(nullptr, sizeof(Step), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                          -1, 0)) Step(0)) {}
  SharedStep(const SharedStep&) = delete;
  SharedStep& operator=(const SharedStep&) = delete;
  ~SharedStep() { ::munmap(step_, sizeof(Step)); }
  void set(std::int64_t step) { step_->store(step); }
  std::int64_t get() const { return step_->load(); }

 private:
  using Step = std::atomic<std::int64_t>;
  Step* step_;
};

TEST_F(CheckpointWriterTest, KillsLeaveAWholeCheckpointAndNoWarning) {
  constexpr int kKills = 30;
  SharedStep done;  // the last step whose save was waited for
  std::mt19937 random(1);
  std::int64_t from = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    Processes child(1, [&](int) {
      CheckpointWriter writer(root_, 1);
      writer.remove_after(from);
      for (std::int64_t step = from + 1;; ++step) {
        save(writer, step);
        done.set(step);
        writer.save(snapshot_of(step));  // replaced, and the next save is on its heels
        if (!writer.take_warnings().empty()) throw std::runtime_error("a save failed");
      }
    });
    while (done.get() <= from) {
      ASSERT_EQ(child.code(0, 0.001), Processes::kRunning) << child.said(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));
    child.signal(0, SIGKILL);
    ASSERT_EQ(child.code(0), -SIGKILL) << child.said(0);

    std::vector<std::string> warnings;
    const auto newest = newest_checkpoint(root_, warnings);
    ASSERT_TRUE(newest) << kill;
    EXPECT_TRUE(warnings.empty()) << warnings[0];
    EXPECT_GE(newest->step(), done.get());
    expect_contents(*newest);
    from = newest->step();
    done.set(from);
  }
  CheckpointWriter writer(root_, 1);
  save(writer, from);
  EXPECT_EQ(names().size(), 1u) << testing::PrintToString(names());
}

}  // namespace
}  // namespace tunas::engine
