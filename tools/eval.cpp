// tunas eval: scores trained weights on every image of a data set.
#include <cstdio>

#include "engine/safetensors.h"
#include "tools/evaluation.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

/// Outputs of the classifier in `weights`: the length of its bias.
int classes_of(const std::string& weights) {
  const engine::Safetensors file(weights);
  const engine::Safetensors::Entry* bias = file.find("classifier/bias");
  if (bias == nullptr || bias->shape.size() != 1) {
    fail(Exit::data, weights, ": has no tensor 'classifier/bias'; were they saved by tunas train?");
  }
  return static_cast<int>(bias->shape[0]);
}

Exit run(const Config& given) {
  Config config = given;
  const std::string weights = config.text("weights");
  search::Space alone = variant(open_network(config.text("arch")).alone, config);
  alone.resolution = resolution(config, alone);
  alone.classes = classes_of(weights);
  const ImageSet images = open_image_set(config.text("data"), data::Split::test);
  data::check_labels(*images.records, alone.classes);

  Evaluation options;
  options.batch = static_cast<int>(config.integer("batch-size"));
  options.workers = static_cast<int>(config.integer("workers"));
  options.on_bad = on_bad_sample(config);
  options.last = config.flag("drop-last") ? LastBatch::drop : LastBatch::keep;

  search::TrainConfig settings;
  settings.network.supernet.resolution = alone.resolution;
  settings.network.supernet.running_averages = true;
  settings.network.train_batch = 1;
  settings.network.validation_batch = options.batch;
  settings.steps = 1;
  engine::Device device = open_device(config);
  search::Trainer trainer(device, alone, settings);
  trainer.network().load_weights(weights);

  open_log();
  catch_interrupt();
  const Scores scores = evaluate(trainer, images, options, device);
  if (interrupted()) return Exit::interrupted;
  if (scores.outcome.images == 0) {
    fail(Exit::data, config.text("data"), ": no image was scored; ", scores.skipped,
         " could not be decoded, and --drop-last leaves out less than a batch of ", options.batch);
  }
  std::fputs((config.flag("json") ? scores.json().dump(2) + "\n" : scores.text()).c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb eval_verb() {
  return {"eval", "scores trained weights on every image of a data set",
          join({arch_option(),
                {.name = "weights", .unit = "FILE", .help = "weights.safetensors of a training"},
                data_option(),
                {.name = "batch-size",
                 .type = Type::integer,
                 .fallback = std::to_string(Evaluation().batch),
                 .unit = "images",
                 .help = "scored at a time",
                 .least = 1},
                {.name = "drop-last",
                 .type = Type::flag,
                 .help = "leave the last, incomplete batch out, as the published evaluation does"},
                bad_sample_option(),
                resolution_option(),
                json_option(),
                config_option()},
               {variant_options(), machine_options()}),
          run};
}

}  // namespace tunas::tools
