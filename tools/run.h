// Run: the bookkeeping of a search or a training in its run folder: configuration, messages, one
// line of metrics and one of timing per step, and the status line.
//
// timing.jsonl  step, seconds (since the start), step_seconds, images_per_second,
//               stall_seconds (of this step, waiting for data)
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "data/loader.h"
#include "engine/metrics.h"
#include "tools/config.h"
#include "tools/data_sets.h"
#include "tools/progress.h"
#include "tools/run_folder.h"
#include "tools/steps.h"

namespace tunas::tools {

/// --out, --overwrite, --config, --json.
std::vector<Option> run_options();
/// The folder of --out, looked at but not made yet.
RunFolder open_run_folder(const Config& config);

class Run {
 public:
  /// Makes the folder and everything a run begins with. Error(Exit::data) where that fails.
  Run(const RunFolder& folder, const Config& config, const Steps& steps);

  /// Loaders whose stalls and left-out images are reported; they must outlive the steps.
  using Loaders = std::vector<const data::Loader*>;
  void watch(Loaders loaders) { loaders_ = std::move(loaders); }

  /// After a step: its line of metrics, its timing, the status line made of `fields()`.
  template <class Fields>
  void step(double images, const engine::Json& line, const Fields& fields) {
    const StepTime time = record(images, line);
    progress_.step(done_, images, time, fields);
  }
  void metrics(const engine::Json& line) { metrics_.write(line); }
  /// A file of the folder, complete or not at all.
  void write(const std::string& name, const std::string& text) const;

  /// While an error is on its way: tries to leave a file, and says what was `found`, in the log
  /// too.
  void rescue(const std::string& name, const std::string& text, const std::string& found) const;

  /// Prints `result`, says how the run ended and gives its exit code.
  Exit finish(const std::string& result);

 private:
  StepTime record(double images, const engine::Json& line);

  RunFolder folder_;
  std::shared_ptr<Terminal> terminal_;
  engine::JsonLines metrics_, timing_;
  Progress progress_;
  Loaders loaders_;
  SkipLog skips_;
  std::int64_t done_ = 0, steps_;
  double stalls_ = 0;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace tunas::tools
