// tunas train: trains one network alone and scores it on the held-out images.
//
// metrics.jsonl  step, loss, accuracy, lr; of a step that was not finite also skipped, the layer
//                where it began (not_finite.h); its last object holds the scores on the held-out
//                images instead: step, top1, top5, loss, count, skipped
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <variant>

#include "tools/evaluation.h"
#include "tools/not_finite.h"
#include "tools/preprocess.h"
#include "tools/ranks.h"
#include "tools/recipes.h"
#include "tools/run.h"
#include "tools/selection.h"
#include "tools/steps.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;
using search::TrainReport;

/// Dropout is for long trainings (specification section 16).
constexpr double kDropoutEpochs = 150;

/// At the end. Scoring an image takes less than half the memory of training on it.
Evaluation evaluation(const Config& config, const Steps& steps) {
  Evaluation options;
  options.batch = std::clamp(2 * steps.per_shard(), 32, options.batch);
  options.workers = static_cast<int>(config.integer("workers"));
  options.on_bad = on_bad_sample(config);
  return options;
}

/// --schedule: of the learning rate.
std::variant<engine::Cosine, engine::Staircase> rate_curve(const Config& config, const Steps& steps,
                                                           std::int64_t examples) {
  const double peak = steps.rate(config.number("lr"));
  const std::string schedule = config.text("schedule");
  const char* idle = schedule == "cosine" ? "lr-gamma" : "warmup";
  require(!config.from(idle).starts_with("flag"), config.from(idle), ": --schedule ", schedule,
          " has no use for it; leave it out");
  if (schedule == "cosine") {
    return engine::Cosine{peak, engine::share_of(config.number("warmup"), steps.steps),
                          steps.steps};
  }
  return engine::Staircase{peak, config.number("lr-gamma"),
                           static_cast<double>(examples) / steps.batch};
}

/// What the network and the length of the training say where no option does.
void settle_regularization(Config& config, const search::Space& alone, const Steps& steps) {
  config.settle("weight-decay", fmt::format("{}", alone.weight_decay));
  config.settle("dropout", fmt::format("{}", steps.epochs < kDropoutEpochs ? 0 : alone.dropout));
}

search::TrainConfig train_config(const Config& config, const search::Space& alone,
                                 const Preprocess& preprocess, const Steps& steps,
                                 std::int64_t examples) {
  const auto real = [&](const char* name) { return static_cast<float>(config.number(name)); };
  const bool sgd = config.text("optimizer") == "sgd";
  search::TrainConfig train;
  search::NetworkConfig& network = train.network;
  network.supernet.resolution = alone.resolution;
  network.supernet.preprocess = preprocess;
  network.supernet.running_averages = true;
  network.supernet.momentum = real("bn-momentum");
  network.supernet.weight_decay = sgd ? 0 : real("weight-decay");
  network.supernet.dropout = real("dropout");
  network.optimizer.kind = sgd ? engine::Optimizer::Kind::sgd : engine::Optimizer::Kind::rms_prop;
  network.optimizer.momentum = real("momentum");
  network.optimizer.weight_decay = sgd ? real("weight-decay") : 0;
  network.average = config.number("ema");
  network.label_smoothing = real("label-smoothing");
  network.train_batch = steps.per_shard();
  network.validation_batch = evaluation(config, steps).batch;
  network.shards = steps.shards;
  network.seed = static_cast<std::uint64_t>(config.integer("seed"));
  train.steps = steps.steps;
  train.rate = rate_curve(config, steps, examples);
  return train;
}

Exit run(const Config& given) {
  Config config = given;
  const RunFolder folder = open_run_folder(config);
  Network network = open_network(config.text("arch"));
  network = variant(network, config);
  network.alone.resolution = resolution(config, network.alone);
  const ImageSets sets = open_image_sets(config);
  network.alone = with_classes(network.alone, config, sets);
  const Steps steps = plan_steps(config, kTrainRecipes, sets.train.size());
  if (steps.recipe == "small") config.apply("small", small_running_averages(steps.steps));
  settle_regularization(config, network.alone, steps);
  const Preprocess preprocess = preset(config.text("preprocess"), network.alone.resolution);
  network.preprocess = preprocess;
  const search::TrainConfig settings =
      train_config(config, network.alone, preprocess, steps, sets.train.size());
  settle_images(config, network.alone, sets);

  engine::Device device = open_device(config);
  const std::unique_ptr<engine::Comm> comm = open_comm(config, folder, device, steps.shards);
  search::Trainer trainer(device, network.alone, settings, *comm);
  Start start = find_start(config, folder, *comm);
  if (start.checkpoint) trainer.restore(*start.checkpoint);
  data::LoaderConfig loading = shard_loader(config, steps.per_shard(), data::Crops::random, device);
  if (config.text("preprocess") == "torchvision") loading.rule.law = data::CropLaw::torchvision;
  share_out(loading, *comm, steps.shards, start.step());
  data::Loader loader(*sets.train.records, sets.train.subset, loading);
  Run run(folder, config, steps, *comm, std::move(start));  // from here on there are files
  run.write("arch.json", describe(network, network.alone.resolution).dump(2) + "\n");
  spdlog::info("{}: {}", network.alone.name, steps.text());

  run.watch({&loader});
  while (!trainer.done() && !run.stopped()) {
    const TrainReport report = trainer.step([&]() -> const Batch& { return loader.next(); });
    run.step(
        report.images, -report.loss,
        marked({{"step", report.step},
                {"loss", report.loss},
                {"accuracy", report.accuracy},
                {"lr", report.rate}},
               report.not_finite),
        [&] { return fmt::format("loss {:.3f}  accuracy {:.3f}", report.loss, report.accuracy); });
    run.checkpoint(Run::Checkpoint::if_due, trainer);
  }
  run.checkpoint(Run::Checkpoint::last, trainer);
  const auto save_weights = [&](const char* name) {
    if (run.writes()) trainer.network().save_weights(folder.file(name));
  };
  if (settings.network.average > 0) {
    save_weights("weights_last.safetensors");
    trainer.network().exchange_averages();
  }
  save_weights("weights.safetensors");

  Json result = {{"step", trainer.step_number()}};
  std::string text;
  if (sets.held_out.size() > 0 && trainer.done()) {
    Evaluation options = evaluation(config, steps);
    options.preprocess = preprocess;
    const Scores scores = evaluate(trainer, sets.held_out, options, device, *comm);
    if (scores.whole) {
      result.update(scores.json());
      run.metrics(result);
      text = scores.text();
    }
  }
  return run.finish(config.flag("json") ? result.dump(2) + "\n"
                                        : text + "run folder  " + folder.path() + "\n");
}

std::vector<Option> training_options() {
  return {preprocess_option(),
          {.name = "optimizer",
           .fallback = "rmsprop",
           .help = "rmsprop as published, or sgd as PyTorch has it",
           .choices = {"rmsprop", "sgd"}},
          {.name = "momentum",
           .type = Type::number,
           .fallback = "0.9",
           .help = "of the optimizer",
           .least = 0,
           .most = 1},
          {.name = "schedule",
           .fallback = "cosine",
           .help = "of the learning rate: cosine to zero, or a step every epoch",
           .choices = {"cosine", "step"}},
          {.name = "warmup",
           .type = Type::number,
           .fallback = "0.025",
           .help = "cosine: share of the steps in which the rate rises to its peak",
           .least = 0,
           .most = 1},
          {.name = "lr-gamma",
           .type = Type::number,
           .fallback = "0.98",
           .help = "step: factor of an epoch",
           .least = 0,
           .most = 1},
          {.name = "weight-decay",
           .type = Type::number,
           .help = "of convolutions (rmsprop) or of all parameters (sgd) (default: the network's)",
           .least = 0,
           .most = 1},
          {.name = "label-smoothing",
           .type = Type::number,
           .fallback = "0.1",
           .help = "probability spread over all classes",
           .least = 0,
           .most = 1},
          {.name = "dropout",
           .type = Type::number,
           .help = "before the classifier (default: the network's from 150 epochs on, else 0)",
           .least = 0,
           .most = 0.99},
          {.name = "bn-momentum",
           .type = Type::number,
           .fallback = "0.99",
           .help = "what a step keeps of batch normalization's running averages (1 - momentum in "
                   "PyTorch's words)",
           .least = 0,
           .most = 1},
          {.name = "ema",
           .type = Type::number,
           .fallback = "0",
           .help = "decay of the weights' moving averages, which are then scored and saved, the "
                   "weights themselves in weights_last.safetensors; 0: none",
           .least = 0,
           .most = 0.999999}};
}

}  // namespace

Verb train_verb() {
  return {"train", "trains one network alone",
          join({arch_option()}, {run_options(),
                                 data_options(),
                                 step_options(kTrainRecipes),
                                 training_options(),
                                 {resolution_option()},
                                 variant_options(),
                                 machine_options()}),
          run};
}

}  // namespace tunas::tools
