#include "search/trainer.h"

#include "kernels/error.h"

namespace tunas::search {
namespace {

NetworkConfig with_fixed_plan(NetworkConfig config) {
  config.plans = NetworkConfig::Plans::fixed;
  return config;
}

}  // namespace

Trainer::Trainer(engine::Device& device, const Space& space, const TrainConfig& config,
                 engine::Comm& comm)
    : config_(config),
      network_(device, space, with_fixed_plan(config.network), comm),
      plan_(network_.supernet().plan(Arch::largest(network_.supernet().space()))) {
  for (const Decision& decision : space.decisions) {
    require(decision.options.size() == 1, "space ", space.name, " leaves ", decision.path,
            " open; choose an architecture of it to train");
  }
}

TrainReport Trainer::step(const NextBatch& train) {
  const engine::Range here("step");
  TrainReport report;
  report.step = step_;
  report.rate = std::visit([&](const auto& curve) { return curve.at(step_); }, config_.rate);
  const int shards = config_.network.shards;
  for (int i = 0; i < network_.shards(); ++i) {
    network_.train_shard(train(), plan_, static_cast<std::uint32_t>(step_),
                         network_.first_shard() + i);
  }
  network_.update(report.rate);
  const std::vector<Outcome> outcomes = network_.gather(network_.wait());
  report.not_finite = find_not_finite(network_.params(), {step_, outcomes, {}, network_.verdict()});
  for (const Outcome& trained : outcomes) {
    report.loss += trained.loss / shards;
    report.accuracy += trained.accuracy() / shards;
    report.images += trained.images;
  }
  ++step_;
  not_finite_.add(report.not_finite);
  return report;
}

void Trainer::evaluate(const Batch& batch) {
  if (batch.size() > 0) network_.score(batch, plan_, engine::Pass::evaluate);
}

void accumulate(Outcome& sum, const Outcome& part) {
  const int images = sum.images + part.images;
  if (images > 0) sum.loss += (part.loss - sum.loss) * part.images / images;
  sum.images = images;
  sum.top1 += part.top1;
  sum.top5 += part.top5;
}

}  // namespace tunas::search
