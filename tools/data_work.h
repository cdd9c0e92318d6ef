// What the verbs of `tunas data` share: the words of their command lines, and work on every record
// by several threads whose results are taken in order.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/records.h"
#include "tools/config.h"
#include "tools/progress.h"

namespace tunas::tools {

/// SPEC, --split.
std::vector<Option> records_options();
/// --workers, by default all cores.
Option all_workers_option();
int all_workers(const Config& config);

data::Split split_of(const Config& config);
data::Records open_records(const Config& config);

/// Of a report, for stdout: paths may hold bytes that are no UTF-8.
std::string report_text(const nlohmann::ordered_json& report);

/// How many results wait to be taken at most; a result lies in slot index % window.
constexpr int in_order_window(int workers) { return 4 * workers; }

/// make(index, slot, worker) on `workers` threads, ahead of take(index, slot) on this one, which
/// comes in order of the index and ends all by giving false. What make threw is thrown here when
/// its turn has come.
struct InOrder {
  std::int64_t count = 0;
  int workers = 1;
  std::function<void(std::int64_t index, int slot, int worker)> make;
  std::function<bool(std::int64_t index, int slot)> take;
};
void in_order(const InOrder& work);

/// A status line for work on records.
class RecordProgress {
 public:
  RecordProgress(std::shared_ptr<Terminal> terminal, std::int64_t records);
  /// One more is done; `fields` stand behind the numbers.
  void done(const std::string& fields = "");

 private:
  Progress progress_;
  std::int64_t records_, done_ = 0, shown_ = 0;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace tunas::tools
