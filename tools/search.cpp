// tunas search: one architecture search in a run folder.
//
// metrics.jsonl  step, loss, train_accuracy, accuracy, reward, baseline, cost, entropy, lr,
//                controller_lr, op_warmup, filter_warmup (means over the shards of a step); of a
//                step that was not finite also skipped, the layer where it began (not_finite.h)
// arch.json      the most likely architecture after the last step (--recipe published: at the last
//                step divisible by 100), as `tunas arch show` prints it, with its cost, the
//                target, and how many steps the search took
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "data/decoded.h"
#include "engine/schedule.h"
#include "search/random_search.h"
#include "search/searcher.h"
#include "tools/data_sets.h"
#include "tools/interrupt.h"
#include "tools/not_finite.h"
#include "tools/ranks.h"
#include "tools/recipes.h"
#include "tools/run.h"
#include "tools/selection.h"
#include "tools/steps.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;
using search::CostModel;
using search::SearchReport;
using search::Space;

/// --cost; without it the published latency where it holds and multiply-adds elsewhere, and then
/// `note` says why.
CostModel cost_model(Config& config, const Space& space, int pixels, std::string& note) {
  if (config.has("cost")) return CostModel::make(config.text("cost"), space, pixels);
  try {
    CostModel model = CostModel::pixel1(space, pixels);
    config.settle("cost", "pixel1");
    return model;
  } catch (const Error& error) {
    note = error.what();
  }
  config.settle("cost", "macs");
  return CostModel::macs(space, pixels);
}

/// --target or the published one; where there is none, an Error that says what is usual.
/// A --target beyond all architectures drawn, for a cost that was not asked for (`fell_back`), was
/// meant for another unit.
double target(Config& config, const CostModel& cost, const Space& space, bool fell_back) {
  if (cost.default_target() > 0) {
    config.settle("target", fmt::format("{}", cost.default_target()));
  }
  if (config.has("target") && !fell_back) return config.number("target");
  constexpr int kDraws = 101;
  std::vector<double> costs;
  for (std::uint32_t draw = 0; draw < kDraws; ++draw) {
    costs.push_back(cost.cost(search::random_arch(space, 0, draw)));
  }
  std::sort(costs.begin(), costs.end());
  if (config.has("target")) {
    const double wanted = config.number("target");
    if (wanted > costs.front() / 10 && wanted < costs.back() * 10) return wanted;
  }
  fail(Exit::usage, "tunas search needs --target, in ", cost.unit(),
       config.has("target") ? ", which " + config.from("target") + " is not" : "",
       ": half of the architectures of ", space.name, " cost less than ",
       fmt::format("{:.4g}", costs[kDraws / 2]), ", the middle half ",
       fmt::format("{:.4g} to {:.4g}", costs[kDraws / 4], costs[3 * kDraws / 4]));
}

search::SearchConfig search_config(const Config& config, const Space& space, const Steps& steps) {
  search::SearchConfig search;
  search.network.supernet.resolution = space.resolution;
  search.network.supernet.weight_decay = static_cast<float>(space.weight_decay);
  search.network.train_batch = steps.per_shard();
  search.network.validation_batch =
      std::max(1, static_cast<int>(steps.per_shard() * config.number("val-multiplier")));
  search.network.shards = steps.shards;
  search.network.seed = static_cast<std::uint64_t>(config.integer("seed"));
  search.steps = steps.steps;
  search.learning_rate = steps.rate(config.number("lr"));
  search.controller_rate = steps.rate(config.number("controller-lr"));
  search.delay = config.number("delay-fraction");
  search.op_warmup = config.number("op-warmup");
  search.filter_warmup = config.number("filter-warmup");
  search.reward.kind = search::reward_kind(config.text("reward"));
  search.reward.target = config.number("target");
  search.reward.exponent = config.number("beta");
  if (config.text("recipe") == "published") search.read_every = 100;
  return search;
}

/// Batches of held-out images, decoded as they are needed or once (--cache-holdout).
class HeldOut {
 public:
  HeldOut(const Config& config, const ImageSet& images, const data::LoaderConfig& loading) {
    const std::string place = config.text("cache-holdout");
    if (place == "off") {
      loader_ = std::make_unique<data::Loader>(*images.records, images.subset, loading);
      return;
    }
    std::int64_t said = 0;  // tenths
    const auto progress = [&](std::int64_t done) {
      if (interrupted()) {
        fail(stop_asked() == Stop::preempted ? Exit::preempted : Exit::interrupted,
             "asked to stop while held-out images were decoded; nothing has been computed yet");
      }
      if (10 * done / images.size() == said) return;
      said = 10 * done / images.size();
      spdlog::info("{} of {} held-out images decoded", done, images.size());
    };
    set_ = std::make_unique<data::DecodedSet>(
        *images.records, images.subset, *loading.device,
        data::DecodedConfig{loading.batch, loading.seed, loading.workers,
                            place == "device" ? engine::Place::device : engine::Place::host,
                            loading.on_bad, loading.start, loading.slice},
        progress);
    spdlog::info("they take {} MiB of the {}'s memory", set_->bytes() >> 20, place);
    for (const data::Skipped& bad : set_->skipped()) SkipLog::say(bad);
  }

  const Batch& next() { return set_ ? set_->next() : loader_->next(); }
  /// Null: nothing is decoded any more.
  const data::Loader* loader() const { return loader_.get(); }

 private:
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<data::DecodedSet> set_;
};

Json metrics(const SearchReport& report) {
  return {{"step", report.step},
          {"loss", report.loss},
          {"train_accuracy", report.train_accuracy},
          {"accuracy", report.accuracy},
          {"reward", report.reward},
          {"baseline", report.baseline},
          {"cost", report.cost},
          {"entropy", report.entropy},
          {"lr", report.weight_rate},
          {"controller_lr", report.controller_rate},
          {"op_warmup", report.op_warmup},
          {"filter_warmup", report.filter_warmup}};
}

/// For the status line: 84.10/84.00 ms; 12.30/12.00 M of whatever is counted.
std::string cost_text(double cost, double target, const std::string& unit) {
  const bool counted = target >= 1e5;
  const double scale = counted ? 1e-6 : 1;
  return fmt::format("{:.2f}/{:.2f} {}", cost * scale, target * scale, counted ? "M" : unit);
}

Exit run(const Config& given) {
  Config config = given;
  const RunFolder folder = open_run_folder(config);
  Space space = variant(open_space(config.text("space")), config);
  space.resolution = resolution(config, space);
  const ImageSets sets = open_image_sets(config);
  require(sets.held_out.size() > 0, config.from("holdout"),
          ": a search needs held-out images; hold out at least one");
  space = with_classes(space, config, sets);
  const Steps steps = plan_steps(config, kSearchRecipes, sets.train.size());
  if (config.text("recipe") == "small") {
    config.apply("small", small_controller(steps.steps, steps.batch));
  }
  settle_images(config, space, sets);
  std::string note;
  const CostModel cost = cost_model(config, space, space.resolution, note);
  const double wanted = target(config, cost, space, !note.empty());
  const search::SearchConfig settings = search_config(config, space, steps);

  engine::Device device = open_device(config);
  const std::unique_ptr<engine::Comm> comm = open_comm(config, folder, device, steps.shards);
  search::Searcher searcher(device, space, cost, settings, *comm);
  Start start = find_start(config, folder, *comm);
  if (start.checkpoint) searcher.restore(*start.checkpoint);
  const auto loading = [&](int batch, data::Crops crops) {
    data::LoaderConfig loader = shard_loader(config, batch, crops, device);
    share_out(loader, *comm, steps.shards, start.step());
    return loader;
  };
  data::Loader train(*sets.train.records, sets.train.subset,
                     loading(settings.network.train_batch, data::Crops::random));
  Run run(folder, config, steps, *comm, std::move(start));  // from here on there are files
  if (!note.empty()) spdlog::info("the cost of this search is multiply-adds: {}", note);
  spdlog::info("{}: {}, target {:g} {}", space.name, steps.text(), wanted, cost.unit());

  HeldOut held_out(config, sets.held_out,
                   loading(settings.network.validation_batch, data::Crops::central));
  Run::Loaders loaders = {&train};
  if (held_out.loader()) loaders.push_back(held_out.loader());
  run.watch(loaders);
  const auto found = [&] {
    const search::Arch best = searcher.best();
    Json arch = describe(choose(space, best), space.resolution);
    arch["cost"] = cost.cost(best);
    arch["cost_unit"] = cost.unit();
    arch["target"] = wanted;
    arch["steps"] = searcher.step_number();
    return arch;
  };
  try {
    while (!searcher.done() && !run.stopped()) {
      const SearchReport report = searcher.step([&]() -> const Batch& { return train.next(); },
                                                [&]() -> const Batch& { return held_out.next(); });
      run.step(report.images, report.reward, marked(metrics(report), report.not_finite), [&] {
        return fmt::format("reward {:.4f}  cost {}  entropy {:.1f}", report.reward,
                           cost_text(report.cost, wanted, cost.unit()), report.entropy);
      });
      run.checkpoint(Run::Checkpoint::if_due, searcher);
    }
  } catch (const Error&) {
    run.rescue("arch.json", found().dump(2) + "\n", "indices " + searcher.best().indices());
    throw;
  }

  run.checkpoint(Run::Checkpoint::last, searcher);
  const Json arch = found();
  run.write("arch.json", arch.dump(2) + "\n");
  if (run.writes()) searcher.network().save_weights(folder.file("weights.safetensors"));
  const std::string text = fmt::format(
      "indices     {}\ncost        {:g} {}, target {:g}\nrun folder  {}\n",
      searcher.best().indices(), arch["cost"].get<double>(), cost.unit(), wanted, folder.path());
  return run.finish(config.flag("json") ? arch.dump(2) + "\n" : text);
}

Option cost_of_search() {
  Option option = cost_option();
  option.fallback.clear();
  option.help += " (default: pixel1 where its table holds, else macs)";
  return option;
}

std::vector<Option> search_options() {
  const std::string base = fmt::format("{}", engine::controller_base_rate(256));
  return {{.name = "val-multiplier",
           .type = Type::number,
           .fallback = "4",
           .help = "images of a shard's validation batch per training image",
           .least = 0,
           .most = 1000},
          {.name = "cache-holdout",
           .fallback = "off",
           .help = "decode the held-out images once and keep them: in the device's memory, the "
                   "host's, or not; the same results",
           .choices = {"device", "host", "off"},
           .role = Role::manner},
          cost_of_search(),
          {.name = "target",
           .type = Type::number,
           .help = "cost aimed at (default: that of a published table; others need one)",
           .least = 1e-9,
           .most = 1e18},
          {.name = "reward",
           .fallback = "absolute",
           .help = "how accuracy and cost become one number",
           .choices = {"absolute", "soft", "hard", "none"}},
          {.name = "beta",
           .type = Type::number,
           .fallback = "-0.1",
           .help = "weight of the cost in the reward, negative",
           .most = 0},
          {.name = "controller-lr",
           .type = Type::number,
           .fallback = base,
           .help = "rate of the controller at the end of its delay, per 256 images; grows tenfold",
           .least = 0},
          {.name = "delay-fraction",
           .type = Type::number,
           .fallback = "0.25",
           .help = "of the steps, before the controller learns",
           .least = 0,
           .most = 1},
          {.name = "op-warmup",
           .type = Type::number,
           .fallback = "0.25",
           .help = "fraction of the steps in which all operations may run, averaged",
           .least = 0,
           .most = 1},
          {.name = "filter-warmup",
           .type = Type::number,
           .fallback = "0.25",
           .help = "fraction of the steps in which all filters may be on",
           .least = 0,
           .most = 1}};
}

}  // namespace

Verb search_verb() {
  return {"search", "searches a space for the best architecture of a given cost",
          join({space_option()}, {run_options(),
                                  data_options(),
                                  step_options(kSearchRecipes),
                                  search_options(),
                                  {resolution_option()},
                                  variant_options(),
                                  machine_options()}),
          run};
}

}  // namespace tunas::tools
