// tunas latency measure: a latency table of a space for the machine at hand, in the form of the
// published ones, for `tunas search --cost FILE`.
//
// Networks are chosen until every state of every layer has been run (search/latency_table.h). Each
// is run a few times as it is, which gives its own time, and as often under observation, which
// gives those of its layers. The fastest pass counts, for whatever else the machine does only adds.
// In between random networks are held out: only their own time is taken, and the finished table has
// to predict it.
//
// Shared machines change their speed for seconds or minutes, by up to a half where this was tried.
// So one network, the pace maker, is run between all others, times are multiples of its own before
// and after, and a reading during which it changed is taken again. The median of its times makes
// them milliseconds.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>

#include "engine/file.h"
#include "engine/median.h"
#include "engine/profile.h"
#include "search/latency_table.h"
#include "search/network.h"
#include "search/random_search.h"
#include "tools/data_sets.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/random_images.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;
using search::Arch;
using search::LatencyTable;

constexpr double kMilliseconds = 1e3;
/// The pace may change by so much during a reading, which is else taken again, so often in all.
constexpr double kSteady = 0.05;
constexpr int kReadings = 4;

double fastest(const std::vector<double>& times) {
  return *std::min_element(times.begin(), times.end());
}

/// Runs networks of a space, forward only with running averages.
class Stopwatch {
 public:
  Stopwatch(engine::Device& device, engine::Profile& profile, const search::Space& space, int batch,
            int repeats)
      : profile_(profile),
        network_(device, space, settings(space, batch)),
        images_(batch, space.resolution, space.classes),
        repeats_(repeats),
        pace_maker_(search::random_arch(space, 0, 0)) {
    pace();
  }

  /// Times of one pass in multiples of the pace maker's: the whole and, where they are asked for,
  /// each of `layers`.
  struct Reading {
    double whole = 0;
    std::vector<double> parts;
  };
  Reading read(const Arch& arch, const std::vector<std::string>& layers = {}) {
    Reading reading;
    for (int i = 0; i < kReadings; ++i) {
      const double before = paces_.back();
      reading.whole = whole(arch);
      if (!layers.empty()) reading.parts = parts(arch, layers);
      const double after = pace(), unit = (before + after) / 2;
      reading.whole /= unit;
      for (double& part : reading.parts) part /= unit;
      if (std::abs(after - before) <= kSteady * unit) break;
    }
    return reading;
  }

  /// Milliseconds of the pace maker, its median so far.
  double unit() const { return engine::median(paces_); }

 private:
  /// Milliseconds of one pass.
  double whole(const Arch& arch) {
    const search::Plan plan = network_.supernet().plan(arch);
    pass(plan);  // buffers and plans of its shapes
    std::vector<double> times;
    for (int r = 0; r < repeats_; ++r) {
      const auto begin = std::chrono::steady_clock::now();
      pass(plan);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      times.push_back(took.count() * kMilliseconds);
    }
    return fastest(times);
  }

  double pace() {
    paces_.push_back(whole(pace_maker_));
    return paces_.back();
  }

  /// Milliseconds of each of `layers` in one pass.
  std::vector<double> parts(const Arch& arch, const std::vector<std::string>& layers) {
    const search::Plan plan = network_.supernet().plan(arch);
    profile_.start();
    for (int r = 0; r < repeats_; ++r) pass(plan);
    profile_.stop();
    const std::vector<engine::Profile::Call>& calls = profile_.calls();
    const std::size_t each = calls.size() / static_cast<std::size_t>(repeats_);
    std::map<std::string_view, std::vector<double>> times;  // of each pass
    for (std::size_t i = 0; i < calls.size(); ++i) {
      std::vector<double>& row = times[calls[i].layer];
      row.resize(static_cast<std::size_t>(repeats_));
      row[i / each] += calls[i].seconds * kMilliseconds;
    }
    std::vector<double> parts;
    for (const std::string& layer : layers) {
      const auto found = times.find(layer);
      parts.push_back(found == times.end() ? 0 : fastest(found->second));
    }
    return parts;
  }

  static search::NetworkConfig settings(const search::Space& space, int batch) {
    search::NetworkConfig settings;
    settings.supernet.resolution = space.resolution;
    settings.supernet.running_averages = true;
    settings.train_batch = 1;
    settings.validation_batch = batch;
    return settings;
  }
  void pass(const search::Plan& plan) {
    network_.score(images_.batch, plan, engine::Pass::evaluate);
    network_.wait();
  }

  engine::Profile& profile_;
  search::Network network_;
  RandomImages images_;
  int repeats_;
  Arch pace_maker_;
  std::vector<double> paces_;
};

/// Of networks that the table was not made from.
struct HeldOut {
  std::vector<Arch> archs;
  std::vector<double> times;

  /// Mean and largest |predicted - measured|/measured.
  std::pair<double, double> errors(const LatencyTable& table) const {
    double mean = 0, most = 0;
    for (std::size_t i = 0; i < archs.size(); ++i) {
      const double error = std::abs(table.cost(archs[i]) - times[i]) / times[i];
      mean += error / static_cast<double>(archs.size());
      most = std::max(most, error);
    }
    return {mean, most};
  }
};

/// Fills the table; false when interrupted.
bool measure(Stopwatch& watch, const Config& config, const search::Space& space,
             LatencyTable& table, HeldOut& held_out) {
  const auto seed = static_cast<std::uint64_t>(config.integer("seed"));
  const long networks = config.integer("networks");
  const std::shared_ptr<Terminal> terminal = open_log();
  const std::int64_t states = table.states();
  for (std::uint64_t draw = 0; table.unseen() > 0; ++draw) {
    if (interrupted()) return false;
    const Arch arch = table.next(seed, draw);
    const Stopwatch::Reading reading = watch.read(arch, table.layers());
    table.add(arch, reading.parts, reading.whole);
    // Spread over the whole time, so that a machine that changes its speed is fair to both.
    const std::int64_t seen = states - table.unseen();
    while (static_cast<std::int64_t>(held_out.archs.size()) * states < networks * seen) {
      if (interrupted()) return false;
      held_out.archs.push_back(search::random_arch(space, seed + 1, held_out.archs.size()));
      held_out.times.push_back(watch.read(held_out.archs.back()).whole);
    }
    const std::string text = fmt::format("{} of {} states of layers, {} networks", seen, states,
                                         draw + 1 + held_out.archs.size());
    if (seen == states) {
      terminal->finish(text);
    } else if (terminal->due()) {
      terminal->status(text);
    }
  }
  table.fit(watch.unit());
  for (double& time : held_out.times) time *= watch.unit();
  return true;
}

Exit run(const Config& given) {
  Config config = given;
  search::Space space = variant(open_space(config.text("space")), config);
  space.resolution = resolution(config, space);
  const std::string path = config.text("out");
  check_output(config, "out", {"space", "config"});
  engine::NewFile file(path);  // a place where it cannot be is an error at once
  const int batch = static_cast<int>(config.integer("batch-size"));
  const int repeats = static_cast<int>(config.integer("repeats"));

  engine::Device device = open_device(config);
  engine::Profile profile(device.stream());
  device.observe(profile.observer());
  Stopwatch watch(device, profile, space, batch, repeats);
  LatencyTable table(space);
  HeldOut held_out;
  catch_interrupt();
  if (!measure(watch, config, space, table, held_out)) {
    fail(Exit::interrupted, "interrupted; ", path, " was not written");
  }

  const auto [mean, most] = held_out.errors(table);
  const Json evaluation = {{"networks", held_out.archs.size()},
                           {"mean_error", mean},
                           {"max_error", most},
                           {"median_ms", engine::median(held_out.times)}};
  const std::string text =
      table.json(space.resolution,
                 {{"unit", "ms"},
                  {"device", device.name()},
                  {"source", fmt::format("tunas latency measure: batches of {}, {}, fastest of {}",
                                         batch, config.text("precision"), repeats)},
                  {"evaluation", evaluation}});
  file.write(text.data(), text.size());
  file.commit();
  const std::string report =
      config.flag("json")
          ? evaluation.dump(2) + "\n"
          : fmt::format(
                "states      {}\nheld out    {} networks, median {:.3f} ms\nerror       "
                "{:.1f} % in the mean, {:.1f} % at most\ntable       {}\n",
                table.states(), held_out.archs.size(), engine::median(held_out.times), 100 * mean,
                100 * most, path);
  std::fputs(report.c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb latency_measure_verb() {
  return {
      "latency measure", "a latency table of a space for this machine, for search --cost",
      join({space_option(),
            {.name = "out", .unit = "FILE", .help = "the table", .role = Role::call, .letter = 'o'},
            {.name = "batch-size",
             .type = Type::integer,
             .fallback = "1",
             .unit = "images",
             .help = "that a network sees at a time",
             .least = 1,
             .most = 4096},
            {.name = "repeats",
             .type = Type::integer,
             .fallback = "3",
             .help = "passes of each network, of which the fastest counts",
             .least = 1,
             .most = 1000},
            {.name = "networks",
             .type = Type::integer,
             .fallback = "50",
             .help = "random ones that the table is held against",
             .least = 1,
             .most = 100000},
            seed_option(),
            resolution_option()},
           {variant_options(), compute_options(), {json_option(), config_option()}}),
      run};
}

}  // namespace tunas::tools
