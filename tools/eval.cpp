// tunas eval: scores trained weights on every image of a data set.
//
// What the network and its images are is said by, the strongest first: options; the metadata of the
// weights; arch.json, as a training left it; the family of the weights' names (search/family.h);
// the published evaluation. What it came to is logged, and part of --json.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <optional>

#include "search/family.h"
#include "search/foreign_weights.h"
#include "tools/evaluation.h"
#include "tools/interrupt.h"
#include "tools/predictions.h"
#include "tools/preprocess.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

/// A network with one point, and how it sees images.
struct Subject {
  search::Space alone;
  Preprocess preprocess;

  Json json() const {
    return {{"network", alone.name},
            {"classes", alone.classes},
            {"padding", kPaddingNames[static_cast<int>(alone.padding)]},
            {"bn_epsilon", alone.bn_epsilon},
            {"resolution", alone.resolution},
            {"preprocess", describe(preprocess)}};
  }
  std::string text() const {
    return fmt::format("{}: {} classes, padding {}, batch norm epsilon {:g}; images of {} x {}: {}",
                       alone.name, alone.classes, kPaddingNames[static_cast<int>(alone.padding)],
                       alone.bn_epsilon, alone.resolution, alone.resolution,
                       tools::text(preprocess));
  }
};

Subject subject(const Config& config, const engine::Safetensors& weights) {
  const Network network = open_network(config.text("arch"));
  Subject subject;
  subject.alone = search::fitted(variant(network.alone, config), network.origin, weights);
  if (config.has("padding")) {
    subject.alone.padding =
        config.text("padding") == kPaddingNames[0] ? Padding::same : Padding::symmetric;
  }
  if (config.has("bn-eps")) subject.alone.bn_epsilon = config.number("bn-eps");
  const int pixels = resolution(config, subject.alone);
  subject.preprocess =
      overridden(preprocess_of(network, weights, subject.alone.resolution, pixels), config);
  subject.alone.resolution = pixels;
  require(subject.preprocess.resize == 0 || subject.preprocess.resize >= subject.alone.resolution,
          config.from("resize"), ": the shorter side becomes ", subject.preprocess.resize,
          ", less than the ", subject.alone.resolution,
          " pixels that are shown; give at least that");
  return subject;
}

search::TrainConfig forward_only(const Subject& subject, int batch, bool logits) {
  search::TrainConfig settings;
  settings.network.supernet.resolution = subject.alone.resolution;
  settings.network.supernet.preprocess = subject.preprocess;
  settings.network.supernet.running_averages = true;
  settings.network.train_batch = 1;
  settings.network.validation_batch = batch;
  if (logits) settings.network.logits = search::NetworkConfig::Logits::keep;
  settings.steps = 1;
  return settings;
}

void say(const search::WeightsReport& report) {
  for (const std::string& assumed : report.assumed) spdlog::warn("{}", assumed);
}

Exit run(const Config& given) {
  Config config = given;
  const std::string weights = config.text("weights");
  check_output(config, "predictions", {"weights", "arch"});
  const Subject subject = tools::subject(config, engine::Safetensors(weights));
  const ImageSet images = open_image_set(config.text("data"), data::Split::test);
  data::check_labels(*images.records, subject.alone.classes);

  Evaluation options;
  options.batch = static_cast<int>(config.integer("batch-size"));
  options.workers = static_cast<int>(config.integer("workers"));
  options.on_bad = on_bad_sample(config);
  options.last = config.flag("drop-last") ? LastBatch::drop : LastBatch::keep;
  if (options.last == LastBatch::drop && images.size() < options.batch) {
    fail(Exit::data, config.text("data"), ": no image would be scored; --drop-last leaves out the ",
         images.size(), " there are, less than a batch of ", options.batch);
  }
  options.preprocess = subject.preprocess;
  std::optional<Predictions> predictions;
  if (config.has("predictions")) {
    predictions.emplace(config.text("predictions"), subject.alone.classes);
    options.each = [&](std::int64_t sample, std::int32_t label, std::span<const float> logits) {
      const data::Place at = images.records->place(sample);
      predictions->add(at.key.empty() ? at.file : at.key, label, logits);
    };
  }

  engine::Device device = open_device(config);
  search::Trainer trainer(device, subject.alone,
                          forward_only(subject, options.batch, predictions.has_value()));
  const search::WeightsReport report = search::load_weights_any(trainer.network(), weights);

  open_log();
  say(report);
  spdlog::info("{}", subject.text());
  catch_interrupt();
  const Scores scores = evaluate(trainer, images, options, device);
  if (!scores.whole) fail(Exit::interrupted, "interrupted; no scores without all images");
  if (scores.outcome.images == 0) {
    fail(Exit::data, config.text("data"), ": no image was scored; none could be decoded");
  }
  if (predictions) predictions->commit();
  Json json = scores.json();
  json.update(subject.json());
  std::fputs((config.flag("json") ? json.dump(2) + "\n" : scores.text()).c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb eval_verb() {
  return {"eval", "scores trained weights on every image of a data set",
          join({arch_option(),
                {.name = "weights",
                 .unit = "FILE",
                 .help = "safetensors of a training, or of a network of torchvision, timm or "
                         "once-for-all"},
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
                {.name = "predictions",
                 .unit = "FILE",
                 .help = "write key, label, top-5 and logits of each image there, as JSON lines"},
                {.name = "padding",
                 .help = "of convolutions: TensorFlow's same, or PyTorch's symmetric",
                 .choices = {kPaddingNames[0], kPaddingNames[1]}},
                {.name = "bn-eps",
                 .type = Type::number,
                 .help = "epsilon of batch normalization",
                 .least = 1e-12,
                 .most = 0.5},
                bad_sample_option(),
                resolution_option(),
                json_option(),
                config_option()},
               {preprocess_options(), variant_options(), machine_options()}),
          run};
}

}  // namespace tunas::tools
