#include "tools/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "tools/interrupt.h"

namespace tunas::tools {
namespace {

/// Batches on their way before their outcomes are waited for.
constexpr int kAhead = 8;

/// What a rank tells the others of one of its batches.
struct Part {
  std::int64_t first = 0;  // sample: they come in stored order
  double loss = 0;
  int images = 0, top1 = 0, top5 = 0;
};

/// Those of all ranks, in the order of the batches.
std::vector<Part> gather(engine::Comm& comm, std::vector<Part> parts) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<std::size_t> counts(ranks);
  const std::size_t own = parts.size();
  comm.all_gather(&own, counts.data(), sizeof own);
  const std::size_t most = *std::max_element(counts.begin(), counts.end());
  parts.resize(most);
  std::vector<Part> all(ranks * most);
  comm.all_gather(parts.data(), all.data(), most * sizeof(Part));
  std::erase_if(all, [](const Part& part) { return part.images == 0; });
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first < b.first; });
  return all;
}

/// The loader of this rank's batches; `count` becomes their number, without those left out.
data::LoaderConfig dealt(const Evaluation& options, const ImageSet& images,
                         const engine::Comm& comm, std::int64_t& count) {
  data::LoaderConfig config = data::evaluation_loader(options.batch);
  config.workers = options.workers;
  config.preprocess = options.preprocess;
  config.on_bad = options.on_bad;
  config.slice = {comm.rank(), 1, comm.size()};
  // Batches are counted, not looked at: images that cannot be decoded make some of them smaller.
  const bool rest = images.size() % options.batch != 0 && options.last == LastBatch::keep;
  count = config.slice.share(images.size() / options.batch + rest);
  return config;
}

}  // namespace

Scores evaluate(search::Trainer& trainer, const ImageSet& images, const Evaluation& options,
                const engine::Device& device, engine::Comm& comm) {
  std::int64_t count = 0;
  data::LoaderConfig config = dealt(options, images, comm, count);
  config.device = &device;
  config.resolution = trainer.network().supernet().config().resolution;
  data::Loader loader(*images.records, images.subset, config);
  SkipLog skips;
  std::vector<Part> parts;
  struct Ahead {
    std::vector<std::int64_t> samples;
    std::vector<std::int32_t> labels;
  };
  std::vector<Ahead> ahead;  // to wait for
  const auto row = static_cast<std::size_t>(trainer.network().logit_row());
  for (std::int64_t i = 0; i < count && !interrupted(); ++i) {
    const Batch& batch = loader.next();
    skips.look(loader);
    trainer.evaluate(batch);
    if (batch.size() > 0) ahead.push_back({batch.samples, batch.labels});
    const bool last = i + 1 == count || interrupted();
    if (i % kAhead != kAhead - 1 && !last) continue;
    const std::vector<search::Outcome>& outcomes = trainer.network().wait();
    for (std::size_t b = 0; b < ahead.size(); ++b) {
      const auto& [samples, labels] = ahead[b];
      const search::Outcome& o = outcomes[b];
      parts.push_back({samples[0], o.loss, o.images, o.top1, o.top5});
      for (std::size_t n = 0; options.each && n < samples.size(); ++n) {
        options.each(samples[n], labels[n], std::span(o.logits).subspan(n * row, row));
      }
    }
    ahead.clear();
  }
  Scores scores;
  for (const Part& part : gather(comm, parts)) {
    search::accumulate(scores.outcome, {part.loss, part.images, part.top1, part.top5, {}, {}});
  }
  struct Rest {
    std::int64_t skipped;
    bool whole;
  };
  const Rest mine = {skips.count(), !interrupted()};
  std::vector<Rest> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(&mine, all.data(), sizeof mine);
  for (const Rest& one : all) {
    scores.skipped += one.skipped;
    scores.whole = scores.whole && one.whole;
  }
  return scores;
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
