#include "tools/run.h"

#include <spdlog/spdlog.h>

#include <cstdio>

#include "tools/interrupt.h"
#include "tools/ranks.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

double seconds(std::chrono::steady_clock::duration span) {
  return std::chrono::duration<double>(span).count();
}

/// Makes the folder before any file in it is opened.
RunFolder created(const RunFolder& folder, const Config& config) {
  folder.create();
  engine::write_file(folder.file("config.json"), config.json().dump(2) + "\n");
  return folder;
}

}  // namespace

std::vector<Option> run_options() {
  return {{.name = "out", .unit = "DIR", .help = "the run folder, made by the run"},
          {.name = "overwrite",
           .type = Type::flag,
           .help = "replace the run that is in --out",
           .role = Role::call},
          config_option(),
          json_option()};
}

RunFolder open_run_folder(const Config& config) {
  // Each of several would write the same folder.
  require(ranks().size == 1, "searches and trainings run as one rank so far, this is one of ",
          ranks().size, "; start it without a launcher");
  return RunFolder(config.text("out"), config.flag("overwrite") ? RunFolder::Existing::overwrite
                                                                : RunFolder::Existing::refuse);
}

Run::Run(const RunFolder& folder, const Config& config, const Steps& steps)
    : folder_(created(folder, config)),
      terminal_(open_log(folder.file("log.txt"))),
      metrics_(folder.file("metrics.jsonl")),
      timing_(folder.file("timing.jsonl")),
      progress_(terminal_, steps.steps),
      steps_(steps.steps),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

StepTime Run::record(double images, const engine::Json& line) {
  const auto now = std::chrono::steady_clock::now();
  const double step_seconds = seconds(now - last_);
  last_ = now;
  double stalls = 0;
  for (const data::Loader* loader : loaders_) {
    stalls += loader->stalls();
    skips_.look(*loader);
  }
  metrics_.write(line);
  timing_.write({{"step", done_},
                 {"seconds", seconds(now - start_)},
                 {"step_seconds", step_seconds},
                 {"images_per_second", images / step_seconds},
                 {"stall_seconds", stalls - stalls_}});
  const StepTime time = {step_seconds, stalls - stalls_};
  stalls_ = stalls;
  ++done_;
  return time;
}

void Run::write(const std::string& name, const std::string& text) const {
  engine::write_file(folder_.file(name), text);
}

void Run::rescue(const std::string& name, const std::string& text, const std::string& found) const {
  terminal_->finish("");
  spdlog::warn("ended by an error after step {} of {}; so far: {}", done_, steps_, found);
  try {
    write(name, text);
  } catch (const Error&) {
    // The first error is the one to report; what it cost has just been said.
  }
}

Exit Run::finish(const std::string& result) {
  metrics_.sync();
  timing_.sync();
  if (skips_.count() > 0) spdlog::warn("{} images could not be decoded", skips_.count());
  const double whole = seconds(last_ - start_);
  if (done_ > 0 && whole > 0) {
    spdlog::info("steps waited {:.1f} s of {:.1f} s for images ({:.0f} %){}", stalls_, whole,
                 100 * stalls_ / whole, stalls_ > 0.1 * whole ? "; more --workers may help" : "");
  }
  if (interrupted()) {
    terminal_->finish("");
    spdlog::warn("interrupted after step {} of {}; what was found so far is in {}", done_, steps_,
                 folder_.path());
  }
  std::fputs(result.c_str(), stdout);
  return interrupted() ? Exit::interrupted : Exit::ok;
}

}  // namespace tunas::tools
