// tunas profile: where the time of a step goes, kernel by kernel and layer by layer, on random
// images; and how far it is from what the memory of this machine allows.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include "engine/file.h"
#include "engine/median.h"
#include "engine/range.h"
#include "search/ledger.h"
#include "search/network.h"
#include "search/random_search.h"
#include "tools/data_sets.h"
#include "tools/interrupt.h"
#include "tools/profile_report.h"
#include "tools/random_images.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

enum class Step : unsigned char { train, search, eval };
constexpr const char* kSteps[] = {"train", "search", "eval"};

Step step_of(const Config& config) {
  if (!config.has("pass")) return config.has("space") ? Step::search : Step::train;
  const auto name = std::find(std::begin(kSteps), std::end(kSteps), config.text("pass"));
  return static_cast<Step>(name - std::begin(kSteps));
}

/// What is profiled: an architecture and the space whose weights it runs on.
struct Subject {
  search::Space space;
  search::Arch arch;
  std::string network, of, indices;
};

Subject subject(const Config& config, Step step) {
  const std::string way = config.one_of({"arch", "space"});
  require(!way.empty(), "tunas profile needs --arch FILE|NAME or --space SPACE [--indices I]");
  Subject chosen;
  if (way == "arch") {
    require(!config.has("indices"), config.from("indices"), " needs --space, not --arch");
    chosen.space = variant(open_network(config.text("arch")).alone, config);
    chosen.network = chosen.space.name;
  } else {
    const search::Space space = variant(open_space(config.text("space")), config);
    const auto seed = static_cast<std::uint64_t>(config.integer("seed"));
    chosen.arch = config.has("indices") ? search::Arch::parse(config.text("indices"), space)
                                        : search::random_arch(space, seed, 0);
    chosen.space = step == Step::search ? space : space.only(chosen.arch);
    chosen.network = "an architecture of " + space.name;
    chosen.of = space.name;
    chosen.indices = chosen.arch.indices();
  }
  if (step != Step::search || way == "arch") chosen.arch = search::Arch::largest(chosen.space);
  chosen.space.resolution = resolution(config, chosen.space);
  return chosen;
}

/// Seconds of each of `count` steps.
template <class F>
std::vector<double> time(int count, const F& step) {
  std::vector<double> seconds;
  for (int i = 0; i < count && !interrupted(); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    step();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    seconds.push_back(took.count());
  }
  return seconds;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// The report of a step, before anything ran. `what` must outlive it.
ProfileReport report_on(const Config& config, const Subject& what, Step step) {
  ProfileReport report;
  report.network = what.network;
  report.space = what.of;
  report.indices = what.indices;
  report.pass = kSteps[static_cast<int>(step)];
  report.images = static_cast<int>(config.integer("batch-size"));
  if (step == Step::search) {
    report.scored = static_cast<int>(report.images * config.number("val-multiplier"));
  }
  report.resolution = what.space.resolution;
  report.plan = search::resolve(what.space, what.arch, report.resolution);
  report.steps = static_cast<int>(config.integer("steps"));
  report.kernels = config.text("kernels");
  return report;
}

search::NetworkConfig settings(const ProfileReport& report, Step step) {
  search::NetworkConfig settings;
  settings.supernet.resolution = report.resolution;
  settings.supernet.running_averages = step != Step::search;
  settings.train_batch = step == Step::eval ? 1 : report.images;
  settings.validation_batch = step == Step::eval ? report.images : std::max(report.scored, 1);
  return settings;
}

/// Runs the steps, first to know their time, then to see into them.
void measure(engine::Device& device, const Subject& what, Step step, engine::Profile& profile,
             ProfileReport& report) {
  search::Network network(device, what.space, settings(report, step));
  const RandomImages images(report.images, report.resolution, what.space.classes);
  const RandomImages held_out(report.scored, report.resolution, what.space.classes);
  std::uint32_t number = 0;
  const auto one = [&] {
    const engine::Range here("step");
    if (step == Step::eval) {
      network.score(images.batch, report.plan, engine::Pass::evaluate);
    } else {
      network.train_shard(images.batch, report.plan, number++, 0);
      network.update(0);  // all the work, and weights that stay as ordinary as they were
    }
    if (report.scored > 0) {
      network.score(held_out.batch, report.plan, engine::Pass::search_validation);
    }
    network.wait();
  };
  time(2, one);
  const std::vector<double> alone = time(report.steps, one);
  profile.start();
  const std::vector<double> watched = time(report.steps, one);
  profile.stop();
  if (interrupted()) return;
  report.seconds = engine::median(alone);
  report.watched = mean(watched);
  const search::Moved floor = search::fusion_floor(report.plan);
  const double trained = step == Step::eval ? 0 : report.images;
  report.floor = static_cast<double>(size_of(device.activation_type())) *
                 ((report.images + report.scored) * floor.forward + trained * floor.backward);
}

engine::By rows_of(const Config& config) {
  const std::string& by = config.text("by");
  return by == "kernel" ? engine::By::kernel : by == "layer" ? engine::By::layer : engine::By::both;
}

/// What a training pass moves by the declarations alone: no device is opened, nothing runs.
Exit print_ledger(const Config& config, const Subject& what, ProfileReport report) {
  const bool halves = config.has("precision") ? config.text("precision") == "bf16"
                                              : config.text("device") == "cuda";
  report.type = halves ? "bf16" : "f32";
  report.ledger =
      search::ledger(what.space, what.arch, halves ? DType::bf16 : DType::f32, report.images);
  const std::string text =
      config.flag("json") ? report.json_ledger().dump(2) + "\n" : report.ledger_text();
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

Exit run(const Config& given) {
  Config config = given;
  const Step step = step_of(config);
  const Subject what = subject(config, step);
  ProfileReport report = report_on(config, what, step);
  if (config.flag("ledger")) return print_ledger(config, what, std::move(report));
  std::optional<engine::NewFile> trace;  // a place where it cannot be is an error at once
  if (config.has("trace")) trace.emplace(config.text("trace"));

  engine::Device device = open_device(config);
  engine::Profile profile(device.stream(), config.text("clock") == "events"
                                               ? GpuClock::Source::events
                                               : GpuClock::Source::automatic);
  device.observe(profile.observer());
  report.profile = &profile;
  report.device = device.name();
  report.type = device.activation_type() == DType::bf16 ? "bf16" : "f32";
  report.ledger = search::ledger(what.space, what.arch, device.activation_type(), report.images);
  report.copy = engine::copy_bandwidth(device);
  catch_interrupt();
  measure(device, what, step, profile, report);
  if (interrupted()) return Exit::interrupted;

  if (trace) {
    const std::string text = report.trace();
    trace->write(text.data(), text.size());
    trace->commit();
  }
  const std::string text =
      config.flag("json") ? report.json().dump(2) + "\n" : report.text(rows_of(config));
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb profile_verb() {
  return {"profile", "where the time of a step goes: kernels, layers, bytes, copy bandwidth",
          join({arch_option(),
                space_option(),
                {.name = "indices",
                 .unit = "I",
                 .help = "an architecture of --space (default: a random one, of --seed)"},
                seed_option(),
                {.name = "pass",
                 .help = "what is done with each batch (default: search of --space, train of "
                         "--arch)",
                 .choices = {"train", "search", "eval"}},
                {.name = "batch-size",
                 .type = Type::integer,
                 .fallback = "32",
                 .unit = "images",
                 .help = "of a step",
                 .least = 1,
                 .most = 65536},
                {.name = "val-multiplier",
                 .type = Type::number,
                 .fallback = "4",
                 .help = "validation images of a search step per training image",
                 .least = 0,
                 .most = 1000},
                {.name = "steps",
                 .type = Type::integer,
                 .fallback = "5",
                 .help = "timed, and as many again watched",
                 .least = 1,
                 .most = 1000},
                resolution_option()},
               {variant_options(),
                compute_options(),
                {{.name = "clock",
                  .fallback = "auto",
                  .help = "of a GPU: CUPTI where it can be had, or events around each call",
                  .choices = {"auto", "events"}},
                 {.name = "by",
                  .fallback = "kernel",
                  .help = "rows of the table; --json has all three",
                  .choices = {"kernel", "layer", "both"}},
                 {.name = "ledger",
                  .type = Type::flag,
                  .help = "run nothing; print the bytes that each layer of a training pass moves "
                          "an image: every operation by itself, as fused here, and at least"},
                 {.name = "trace",
                  .unit = "FILE",
                  .help = "also write the calls as a trace for chrome://tracing",
                  .role = Role::call},
                 json_option()}}),
          run};
}

}  // namespace tunas::tools
