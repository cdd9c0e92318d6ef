// CheckpointWriter: the checkpoints of a run that goes on, written beside it. save() takes a
// snapshot and returns; a thread of its own writes it, then removes what is older than the last
// `keep`, but for the one of the best score.
//
// A save that fails does not end the run and costs no earlier checkpoint; it becomes a warning, and
// the next save tries again. Of equal failures in a row the first alone is told.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/checkpoint.h"

namespace tunas::engine {

class CheckpointWriter {
 public:
  /// Makes `root` and removes what killed attempts left there. One process alone may write to a
  /// root (folder_lock.h). Error(Exit::data) where that fails.
  explicit CheckpointWriter(std::string root, int keep = 3);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter() { wait(); }

  /// Waits for the save before, if that is still under way. Error(Exit::usage) as check_snapshot.
  void save(Snapshot&& snapshot);
  /// Returns when all that was saved is on the disk, or has become a warning.
  void wait();
  /// The step of the last save that is on the disk, after wait(); -1: there was none.
  std::int64_t saved() const { return saved_; }
  /// One sentence for each failure since the last call.
  std::vector<std::string> take_warnings();
  /// Seconds that the thread has worked on saves which have ended, successful or not.
  double seconds();

  /// For a run that goes back to `step`: removes the checkpoints of later ones; -1 removes all.
  /// Error(Exit::data) where that fails.
  void remove_after(std::int64_t step);

 private:
  void write(const Snapshot& snapshot);
  void rotate(std::int64_t step) const;
  void warn(const std::string& sentence);

  std::string root_;
  int keep_;
  std::int64_t saved_ = -1;   // the thread's own, as is
  std::string last_failure_;  // without its numbers; empty after a success. The thread's own
  std::mutex mutex_;          // of warnings_ and seconds_
  std::vector<std::string> warnings_;
  double seconds_ = 0;
  std::thread thread_;
};

}  // namespace tunas::engine
