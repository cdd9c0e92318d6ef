// tunas train: trains one network alone and scores it on the held-out images.
//
// metrics.jsonl  step, loss, accuracy, lr; its last object holds the scores on the held-out images
//                instead: step, top1, top5, loss, count, skipped
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "tools/evaluation.h"
#include "tools/interrupt.h"
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

search::TrainConfig train_config(const Config& config, const search::Space& alone,
                                 const Steps& steps) {
  search::TrainConfig train;
  train.network.supernet.resolution = alone.resolution;
  train.network.supernet.running_averages = true;
  train.network.supernet.momentum = static_cast<float>(config.number("bn-momentum"));
  train.network.supernet.weight_decay = static_cast<float>(alone.weight_decay);
  train.network.supernet.dropout =
      steps.epochs < kDropoutEpochs ? 0 : static_cast<float>(alone.dropout);
  train.network.train_batch = steps.per_shard();
  train.network.validation_batch = evaluation(config, steps).batch;
  train.network.shards = steps.shards;
  train.network.seed = static_cast<std::uint64_t>(config.integer("seed"));
  train.steps = steps.steps;
  train.learning_rate = steps.rate(config.number("lr"));
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
  const Steps steps = plan_steps(config, kSmallTrain, 1, sets.train.size());
  if (steps.recipe == "small") config.apply("small", small_running_averages(steps.steps));
  const search::TrainConfig settings = train_config(config, network.alone, steps);
  settle_images(config, network.alone, sets);

  engine::Device device = open_device(config);
  search::Trainer trainer(device, network.alone, settings);
  data::Loader loader(*sets.train.records, sets.train.subset,
                      shard_loader(config, steps.per_shard(), data::Crops::random, device));
  Run run(folder, config, steps);  // from here on there are files
  run.write("arch.json", describe(network, network.alone.resolution).dump(2) + "\n");
  spdlog::info("{}: {}", network.alone.name, steps.text());

  run.watch({&loader});
  catch_interrupt();
  while (!trainer.done() && !interrupted()) {
    const TrainReport report = trainer.step([&]() -> const Batch& { return loader.next(); });
    run.step(
        report.images,
        Json{{"step", report.step},
             {"loss", report.loss},
             {"accuracy", report.accuracy},
             {"lr", report.rate}},
        [&] { return fmt::format("loss {:.3f}  accuracy {:.3f}", report.loss, report.accuracy); });
  }
  trainer.network().save_weights(folder.file("weights.safetensors"));

  Json result = {{"step", trainer.step_number()}};
  std::string text;
  if (sets.held_out.size() > 0 && !interrupted()) {
    const Scores scores = evaluate(trainer, sets.held_out, evaluation(config, steps), device);
    if (!interrupted()) {  // else not all images were scored
      result.update(scores.json());
      run.metrics(result);
      text = scores.text();
    }
  }
  return run.finish(config.flag("json") ? result.dump(2) + "\n"
                                        : text + "run folder  " + folder.path() + "\n");
}

}  // namespace

Verb train_verb() {
  return {"train", "trains one network alone",
          join({arch_option()}, {run_options(),
                                 data_options(),
                                 step_options(),
                                 {{.name = "bn-momentum",
                                   .type = Type::number,
                                   .fallback = "0.99",
                                   .help = "what a step keeps of batch normalization's running "
                                           "averages (1 - momentum in PyTorch's words)",
                                   .least = 0,
                                   .most = 1}},
                                 {resolution_option()},
                                 variant_options(),
                                 machine_options()}),
          run};
}

}  // namespace tunas::tools
