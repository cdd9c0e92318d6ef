// Run: the bookkeeping of a search or a training in its run folder: configuration, messages, one
// line of metrics and one of timing per step, the status line, checkpoints, requests to stop. Of
// several ranks rank 0 alone writes and speaks; the others make the same calls.
//
// timing.jsonl  step, seconds (since the start, without pauses between resumed parts),
//               step_seconds, images_per_second, and of the step's seconds on rank 0
//                 stall_seconds        waiting for images
//                 reduce_seconds       on several CPU ranks: with a sum of gradients under way
//                 reduce_wait_seconds  those of them that were not hidden beside backward
//                 checkpoint_seconds   for the checkpoint after the step before, in this thread
//                 checkpoint_write_seconds  of writing that ended in this step, beside it
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "engine/checkpoint_writer.h"
#include "engine/comm.h"
#include "engine/metrics.h"
#include "search/replicas.h"
#include "tools/config.h"
#include "tools/data_sets.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/resume.h"
#include "tools/run_folder.h"
#include "tools/steps.h"

namespace tunas::tools {

/// --out, --overwrite, --config, --json, and those of checkpoints and ranks.
std::vector<Option> run_options();
/// The folder of --out, looked at but not made yet.
RunFolder open_run_folder(const Config& config);

class Run {
 public:
  /// Makes the folder and everything a run begins with, or goes on from `start`. Catches requests
  /// to stop. `comm` must outlive the run. Error(Exit::usage) where another run is at work in the
  /// folder, Error(Exit::data) where it cannot be made.
  Run(const RunFolder& folder, const Config& config, const Steps& steps, engine::Comm& comm,
      Start start);
  ~Run();

  /// Loaders whose stalls and left-out images are reported; they must outlive the steps.
  using Loaders = std::vector<const data::Loader*>;
  void watch(Loaders loaders) { loaders_ = std::move(loaders); }

  /// Whether any rank has been asked to stop: then all hear of it at once. Before each step.
  bool stopped();

  /// After a step: its line of metrics, its timing, the status line made of `fields()`. `score`:
  /// the larger, the better, NaN: none; the mean since the last checkpoint is that of the next one.
  template <class Fields>
  void step(double images, double score, const engine::Json& line, const Fields& fields) {
    const StepTime time = record(images, score, line);
    if (files_) progress_.step(done_, images, time, fields);
  }
  enum class Checkpoint : unsigned char { if_due, last };
  /// After each step, and after the last one of this call: where it is time for it, a checkpoint of
  /// `work`, a Searcher or a Trainer, whose weights the ranks compare first. The last one is on the
  /// disk on return: a run that has left its results and no checkpoint could not be gone on with.
  template <class Work>
  void checkpoint(Checkpoint when, Work& work) {
    const bool last = when == Checkpoint::last;
    if (last ? done_ != saved_ : done_ % every_ == 0) {
      const auto begin = Clock::now();
      search::check_replicas(*comm_, work.network().params(), done_);
      saved_ = done_;
      if (files_) {
        on_disk();  // one snapshot in memory at a time
        save(when, work.snapshot());
      }
      checkpoints_ += std::chrono::duration<double>(Clock::now() - begin).count();
    }
    if (last && files_ && !on_disk()) {  // what could not be written may be so now
      save(when, work.snapshot());
      on_disk();
    }
  }

  /// Whether this rank writes files.
  bool writes() const { return files_ != nullptr; }
  void metrics(const engine::Json& line);
  /// A file of the folder, complete or not at all.
  void write(const std::string& name, const std::string& text) const;

  /// While an error is on its way: tries to leave a file, and says what was `found`, in the log
  /// too.
  void rescue(const std::string& name, const std::string& text, const std::string& found) const;

  /// Prints `result`, says how the run ended and gives its exit code.
  Exit finish(const std::string& result);

 private:
  /// What rank 0 writes.
  struct Files;
  using Clock = std::chrono::steady_clock;
  /// Since the start, of what timing.jsonl has for each step.
  struct Seconds {
    double stalls = 0, checkpoints = 0, writes = 0;
    engine::SumSeconds sums;
  };

  StepTime record(double images, double score, const engine::Json& line);
  Seconds seconds() const;
  engine::Json timing(double step_seconds, double images, const Seconds& now) const;
  void save(Checkpoint when, engine::Snapshot&& snapshot);
  /// Waits for what is being written; whether the checkpoint of the last step is there then.
  bool on_disk() const;
  void say_warnings() const;

  RunFolder folder_;
  engine::Comm* comm_;
  nlohmann::ordered_json config_;
  std::unique_ptr<Files> files_;  // null: another rank writes
  std::shared_ptr<Terminal> terminal_;
  Progress progress_;
  Loaders loaders_;
  SkipLog skips_;
  std::int64_t done_ = 0, steps_, every_, saved_ = -1, resumed_ = -1;
  double checkpoints_ = 0, scores_ = 0;
  double earlier_ = 0;  // seconds of the run before this call
  Seconds before_;      // at the end of the step before
  int scored_ = 0;      // steps since the last checkpoint
  Stop stop_ = Stop::none;
  Clock::time_point start_, last_;
};

}  // namespace tunas::tools
