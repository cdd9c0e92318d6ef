#include "search/searcher.h"

#include <span>

#include "kernels/error.h"

namespace tunas::search {

using engine::Pass;
using engine::share_of;

namespace {

/// Before anything large is made.
const SearchConfig& checked(const SearchConfig& config) {
  require(config.op_warmup <= config.delay && config.filter_warmup <= config.delay,
          "warm-ups (operations ", config.op_warmup, ", filters ", config.filter_warmup,
          " of the steps) must not outlast the controller's delay (", config.delay,
          "), or it would learn from replaced decisions");
  return config;
}

}  // namespace

Searcher::Searcher(engine::Device& device, const Space& space, const CostModel& cost,
                   const SearchConfig& config, engine::Comm& comm)
    : config_(checked(config)),
      cost_(&cost),
      weight_rate_{config.learning_rate, share_of(config.rate_warmup, config.steps), config.steps},
      controller_rate_{config.controller_rate, share_of(config.delay, config.steps), config.steps},
      network_(device, space, config.network, comm),
      controller_(space, config.controller) {
  const auto shards = static_cast<std::size_t>(config.network.shards);
  samples_.resize(shards);
  rewards_.resize(shards);
  read_off_ = controller_.most_likely();
}

SearchReport Searcher::step(const NextBatch& train, const NextBatch& held_out) {
  const engine::Range here("step");
  if (config_.read_every > 0 && step_ % config_.read_every == 0) {
    read_off_ = controller_.most_likely();
  }
  SearchReport report;
  report.step = step_;
  report.weight_rate = weight_rate_.at(step_);
  report.controller_rate = controller_rate_.at(step_);
  report.op_warmup = engine::linear_decay(step_, share_of(config_.op_warmup, config_.steps));
  report.filter_warmup =
      engine::linear_decay(step_, share_of(config_.filter_warmup, config_.steps));
  const int shards = config_.network.shards;
  const auto step32 = static_cast<std::uint32_t>(step_);

  for (int s = 0; s < shards; ++s) {  // of all ranks: each knows all architectures
    samples_[static_cast<std::size_t>(s)] =
        controller_.sample(config_.network.seed, step32, static_cast<std::uint32_t>(s),
                           {report.op_warmup, report.filter_warmup});
  }
  const int first = network_.first_shard(), own = network_.shards();
  plans_.clear();
  for (int s = first; s < first + own; ++s) {
    const Arch& arch = samples_[static_cast<std::size_t>(s)].arch;
    plans_.push_back(network_.supernet().plan(arch));
    const std::string indices = arch.indices();
    const engine::Range here_too(indices.c_str());
    network_.train_shard(train(), plans_.back(), step32, s);
  }
  network_.update(report.weight_rate);
  for (int s = first; s < first + own; ++s) {
    const std::string indices = samples_[static_cast<std::size_t>(s)].arch.indices();
    const engine::Range arch(indices.c_str());
    network_.score(held_out(), plans_[static_cast<std::size_t>(s - first)],
                   Pass::search_validation);
  }

  const std::span mine(network_.wait());
  const std::vector<Outcome> trained = network_.gather(mine.first(plans_.size())),
                             scored = network_.gather(mine.subspan(plans_.size()));
  report.not_finite =
      find_not_finite(network_.params(), {step_, trained, scored, network_.verdict()});
  const Reward reward = config_.reward;
  for (std::size_t i = 0; i < samples_.size(); ++i) {
    report.loss += trained[i].loss / shards;
    report.train_accuracy += trained[i].accuracy() / shards;
    const double cost = cost_->cost(samples_[i].arch);
    rewards_[i] = reward(scored[i].accuracy(), cost);
    report.accuracy += scored[i].accuracy() / shards;
    report.cost += cost / shards;
    report.entropy += samples_[i].entropy / shards;
    report.images += trained[i].images + scored[i].images;
  }
  if (!report.not_finite) {
    const StepStats stats = controller_.update(samples_, rewards_, report.controller_rate);
    report.reward = stats.mean_reward;
    report.baseline = stats.baseline;
  }
  ++step_;
  not_finite_.add(report.not_finite);
  return report;
}

}  // namespace tunas::search
