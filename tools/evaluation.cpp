#include "tools/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tools/interrupt.h"

namespace tunas::tools {
namespace {

/// Batches on their way before their outcomes are waited for.
constexpr int kAhead = 8;

}  // namespace

Scores evaluate(search::Trainer& trainer, const ImageSet& images, const Evaluation& options,
                const engine::Device& device) {
  data::LoaderConfig config = data::evaluation_loader(options.batch);
  config.workers = options.workers;
  config.device = &device;
  config.preprocess = options.preprocess;
  config.resolution = trainer.network().supernet().config().resolution;
  config.on_bad = options.on_bad;
  data::Loader loader(*images.records, images.subset, config);
  SkipLog skips;
  search::Outcome sum;
  std::vector<std::pair<std::vector<std::int64_t>, std::vector<std::int32_t>>>
      ahead;  // to wait for
  // Batches are counted, not looked at: images that cannot be decoded make some of them smaller.
  const std::int64_t whole = images.size() / options.batch;
  const bool rest = images.size() % options.batch != 0 && options.last == LastBatch::keep;
  for (std::int64_t i = 0; i < whole + rest && !interrupted(); ++i) {
    const Batch& batch = loader.next();
    skips.look(loader);
    trainer.evaluate(batch);
    if (options.each && batch.size() > 0) ahead.emplace_back(batch.samples, batch.labels);
    const bool last = i + 1 == whole + rest || interrupted();
    if (i % kAhead != kAhead - 1 && !last) continue;
    const std::vector<search::Outcome>& parts = trainer.network().wait();
    for (const search::Outcome& part : parts) search::accumulate(sum, part);
    const auto row = static_cast<std::size_t>(trainer.network().logit_row());
    for (std::size_t b = 0; b < ahead.size(); ++b) {
      const auto& [samples, labels] = ahead[b];
      for (std::size_t n = 0; n < samples.size(); ++n) {
        options.each(samples[n], labels[n], std::span(parts[b].logits).subspan(n * row, row));
      }
    }
    ahead.clear();
  }
  return {sum, skips.count()};
}

nlohmann::ordered_json Scores::json() const {
  const double count = std::max(outcome.images, 1);
  return {{"top1", outcome.top1 / count},
          {"top5", outcome.top5 / count},
          {"loss", outcome.loss},
          {"count", outcome.images},
          {"skipped", skipped}};
}

std::string Scores::text() const {
  const double count = std::max(outcome.images, 1);
  return fmt::format(
      "top1     {:.4f}\ntop5     {:.4f}\nloss     {:.4f}\ncount    {}\nskipped  {}\n",
      outcome.top1 / count, outcome.top5 / count, outcome.loss, outcome.images, skipped);
}

}  // namespace tunas::tools
