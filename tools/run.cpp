#include "tools/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <utility>

#include "tools/ranks.h"
#include "tools/selection.h"

namespace tunas::tools {

using engine::JsonLines;

namespace {

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kTiming = "timing.jsonl";
constexpr const char* kSeconds = "seconds";
// Of the steps since the last checkpoint that was due.
constexpr const char* kScores = "sum_of_scores";
constexpr const char* kScored = "steps_with_score";

template <class Span>
double in_seconds(Span span) {
  return std::chrono::duration<double>(span).count();
}

void copy_file(const std::string& from, const std::string& to) {
  engine::NewFile file(to);
  engine::read_pieces(from,
                      [&](std::string_view piece) { file.write(piece.data(), piece.size()); });
  file.commit();
}

RunFolder& taken(RunFolder& folder) {
  folder.create();
  folder.lock();
  return folder;
}

/// New, or cut back to what was there at the checkpoint, in this folder or in that of the run that
/// wrote it.
void open_lines(std::optional<JsonLines>& lines, const RunFolder& folder, const Start& start,
                const char* name) {
  const std::string path = folder.file(name);
  if (!start.checkpoint) {
    lines.emplace(path);
    return;
  }
  if (!start.in(folder)) copy_file(start.from + "/" + name, path);
  lines.emplace(path, start.checkpoint->lines().at(name).get<std::int64_t>());
}

}  // namespace

struct Run::Files {
  /// Takes the folder for this run alone; a new run's then holds nothing but its configuration.
  Files(RunFolder& folder, const Config& config, const Start& start)
      : checkpoints(taken(folder).file("checkpoints"), static_cast<int>(config.integer("keep"))) {
    const bool goes_on = start.checkpoint && start.in(folder);
    // First: whatever happens next, no other run goes on from one of them.
    checkpoints.remove_after(goes_on ? start.step() : -1);
    if (!goes_on) {
      folder.clear();
      engine::write_file(folder.file("config.json"), config.json().dump(2) + "\n");
    }
    open_lines(metrics, folder, start, kMetrics);
    open_lines(timing, folder, start, kTiming);
  }

  engine::CheckpointWriter checkpoints;
  std::optional<JsonLines> metrics, timing;
};

Run::~Run() = default;

std::vector<Option> run_options() {
  return join({{.name = "out",
                .unit = "DIR",
                .help = "the run folder, made by the run",
                .role = Role::manner},
               {.name = "overwrite",
                .type = Type::flag,
                .help = "replace the run that is in --out",
                .role = Role::call}},
              {checkpoint_options(), rank_options(), {config_option(), json_option()}});
}

RunFolder open_run_folder(const Config& config) {
  const bool overwrite = config.flag("overwrite"), resume = config.has("resume");
  require(!overwrite || !resume, config.from("overwrite"), " and ", config.from("resume"),
          " exclude each other; leave one out");
  // A checkpoint named by hand may lie in another run's folder: then --out is a new one.
  RunFolder folder(config.text("out"), overwrite ? RunFolder::Existing::overwrite
                                       : resume  ? RunFolder::Existing::resume
                                                 : RunFolder::Existing::refuse);
  // Before ranks meet there, which would disturb those of a run that is at work.
  if (!folder.empty() && ranks().rank == 0) folder.lock();
  return folder;
}

Run::Run(const RunFolder& folder, const Config& config, const Steps& steps, engine::Comm& comm,
         Start start)
    : folder_(folder),
      comm_(&comm),
      config_(config.json()),
      files_(comm.rank() == 0 ? std::make_unique<Files>(folder_, config, start) : nullptr),
      terminal_(files_ ? open_log(folder.file("log.txt"),
                                  start.checkpoint ? LogFile::append : LogFile::create)
                       : open_quiet_log(comm.rank())),
      progress_(terminal_, steps.steps),
      done_(start.step()),
      steps_(steps.steps),
      every_(config.integer("checkpoint-every")),
      start_(Clock::now()),
      last_(start_) {
  for (const std::string& warning : start.warnings) spdlog::warn("{}", warning);
  if (start.checkpoint) {
    saved_ = resumed_ = done_;
    const engine::Json& lines = start.checkpoint->lines();
    earlier_ = lines.at(kSeconds).get<double>();
    scores_ = lines.at(kScores).get<double>();
    scored_ = lines.at(kScored).get<int>();
    spdlog::info("goes on after step {} of {}, from {}", done_, steps_, start.checkpoint->folder());
  }
  if (comm.size() > 1) spdlog::info("{} ranks", comm.size());
  catch_stop();
}

bool Run::stopped() {
  const Stop mine = stop_asked();
  std::vector<Stop> all(static_cast<std::size_t>(comm_->size()));
  comm_->all_gather(&mine, all.data(), sizeof mine);
  stop_ = *std::max_element(all.begin(), all.end());
  return stop_ != Stop::none;
}

StepTime Run::record(double images, double score, const engine::Json& line) {
  const auto now = Clock::now();
  const double step_seconds = in_seconds(now - last_);
  last_ = now;
  for (const data::Loader* loader : loaders_) skips_.look(*loader);
  const Seconds spent = seconds();
  const StepTime time = {step_seconds, spent.stalls - before_.stalls};
  if (std::isfinite(score)) {
    scores_ += score;
    ++scored_;
  }
  if (files_) {
    files_->metrics->write(line);
    files_->timing->write(timing(step_seconds, images, spent));
  }
  before_ = spent;
  ++done_;
  return time;
}

Run::Seconds Run::seconds() const {
  Seconds all;
  for (const data::Loader* loader : loaders_) all.stalls += loader->stalls();
  all.checkpoints = checkpoints_;
  if (files_) all.writes = files_->checkpoints.seconds();
  all.sums = comm_->sum_seconds().value_or(engine::SumSeconds());
  return all;
}

engine::Json Run::timing(double step_seconds, double images, const Seconds& now) const {
  engine::Json line = {{"step", done_},
                       {kSeconds, earlier_ + in_seconds(last_ - start_)},
                       {"step_seconds", step_seconds},
                       {"images_per_second", images / step_seconds},
                       {"stall_seconds", now.stalls - before_.stalls}};
  if (comm_->sum_seconds()) {
    line["reduce_seconds"] = now.sums.busy - before_.sums.busy;
    line["reduce_wait_seconds"] = now.sums.waited - before_.sums.waited;
  }
  const auto where_any = [&](const char* name, double seconds) {
    if (seconds > 0) line[name] = seconds;
  };
  where_any("checkpoint_seconds", now.checkpoints - before_.checkpoints);
  where_any("checkpoint_write_seconds", now.writes - before_.writes);
  return line;
}

void Run::metrics(const engine::Json& line) {
  if (files_) files_->metrics->write(line);
}

void Run::save(Checkpoint when, engine::Snapshot&& snapshot) {
  if (scored_ > 0) snapshot.score = scores_ / scored_;
  if (when == Checkpoint::if_due) scores_ = scored_ = 0;
  snapshot.config = config_;
  snapshot.lines = {{kMetrics, files_->metrics->bytes()},
                    {kTiming, files_->timing->bytes()},
                    {kSeconds, earlier_ + in_seconds(Clock::now() - start_)},
                    {kScores, scores_},
                    {kScored, scored_}};
  snapshot.sync_first = {folder_.file(kMetrics), folder_.file(kTiming)};
  files_->checkpoints.save(std::move(snapshot));
  say_warnings();
}

bool Run::on_disk() const {
  files_->checkpoints.wait();
  say_warnings();
  return std::max(files_->checkpoints.saved(), resumed_) == done_;
}

void Run::say_warnings() const {
  for (const std::string& warning : files_->checkpoints.take_warnings()) {
    spdlog::warn("{}", warning);
  }
}

void Run::write(const std::string& name, const std::string& text) const {
  if (files_) engine::write_file(folder_.file(name), text);
}

void Run::rescue(const std::string& name, const std::string& text, const std::string& found) const {
  if (!files_) return;
  terminal_->finish("");
  spdlog::warn("ended by an error after step {} of {}; so far: {}", done_, steps_, found);
  try {
    write(name, text);
  } catch (const Error&) {
    // The first error is the one to report; what it cost has just been said.
  }
}

Exit Run::finish(const std::string& result) {
  stopped();  // the last look at it
  if (files_) {
    files_->metrics->sync();
    files_->timing->sync();
  }
  if (skips_.count() > 0) spdlog::warn("{} images could not be decoded", skips_.count());
  const double whole = in_seconds(last_ - start_), stalls = seconds().stalls;
  if (done_ > 0 && whole > 0) {
    spdlog::info("steps waited {:.1f} s of {:.1f} s for images ({:.0f} %){}", stalls, whole,
                 100 * stalls / whole, stalls > 0.1 * whole ? "; more --workers may help" : "");
  }
  if (files_ && stop_ != Stop::none) {
    terminal_->finish("");
    spdlog::warn("{} after step {} of {}; --resume auto goes on, what was found so far is in {}",
                 stop_ == Stop::preempted ? "asked to stop" : "interrupted", done_, steps_,
                 folder_.path());
  }
  if (files_) std::fputs(result.c_str(), stdout);
  return stop_ == Stop::interrupted ? Exit::interrupted
         : stop_ == Stop::preempted ? Exit::preempted
                                    : Exit::ok;
}

}  // namespace tunas::tools
