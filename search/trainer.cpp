#include "search/trainer.h"

#include <cmath>

#include "kernels/error.h"

namespace tunas::search {

Trainer::Trainer(engine::Device& device, const Space& space, const TrainConfig& config)
    : config_(config),
      network_(device, space, config.network),
      plan_(network_.supernet().plan(Arch::largest(network_.supernet().space()))),
      rate_{config.learning_rate, engine::share_of(config.rate_warmup, config.steps),
            config.steps} {
  for (const Decision& decision : space.decisions) {
    require(decision.options.size() == 1, "space ", space.name, " leaves ", decision.path,
            " open; choose an architecture of it to train");
  }
}

TrainReport Trainer::step(const NextBatch& train) {
  const engine::Range here("step");
  TrainReport report;
  report.step = step_;
  report.rate = rate_.at(step_);
  const int shards = config_.network.shards;
  for (int s = 0; s < shards; ++s) {
    const Outcome trained =
        network_.train_shard(train(), plan_, static_cast<std::uint32_t>(step_), s);
    if (!std::isfinite(trained.loss)) {
      fail(Exit::numeric, "the loss of step ", step_, ", shard ", s,
           " is not finite; a smaller --lr may help");
    }
    report.loss += trained.loss / shards;
    report.accuracy += trained.accuracy() / shards;
    report.images += trained.images;
  }
  network_.update(report.rate);
  ++step_;
  return report;
}

Outcome Trainer::evaluate(const Batch& batch) {
  if (batch.size() == 0) return {};
  return network_.score(batch, plan_, engine::Pass::evaluate);
}

void accumulate(Outcome& sum, const Outcome& part) {
  const int images = sum.images + part.images;
  if (images > 0) sum.loss += (part.loss - sum.loss) * part.images / images;
  sum.images = images;
  sum.top1 += part.top1;
  sum.top5 += part.top5;
}

}  // namespace tunas::search
