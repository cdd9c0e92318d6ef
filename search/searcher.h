// Searcher: one TuNAS search, step by step, in the published order (specification section 13):
//
//   for each shard   sample an architecture (warm-up may widen or average); train its weights
//   all              update the shared weights with the mean gradient
//   for each shard   accuracy Q on a held-out batch with the *updated* weights, same architecture;
//                    reward(Q, cost)
//   all              REINFORCE update of the controller
//
// The only files that know the algorithm are this one's source and trainer.cpp.
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "engine/schedule.h"
#include "search/controller.h"
#include "search/cost_model.h"
#include "search/network.h"
#include "search/not_finite.h"
#include "search/reward.h"

namespace tunas::search {

/// The next batch of a stream; it stays valid until the next call.
using NextBatch = std::function<const Batch&()>;

struct SearchConfig {
  NetworkConfig network;  // train_batch and validation_batch are per shard
  ControllerConfig controller;
  std::int64_t steps = 0;
  double learning_rate = 0;    // peak, of the weights
  double controller_rate = 0;  // at the end of the delay; grows tenfold until the last step
  double rate_warmup = 0.025;  // fractions of `steps`
  double delay = 0.25;
  double op_warmup = 0.25;
  double filter_warmup = 0.25;
  Reward reward;  // its target in the cost model's unit
  /// The architecture is read off at the last step whose number this divides, before its update
  /// (published: 100, specification section 15); 0: after the last step.
  std::int64_t read_every = 0;
};

/// What one step did; means over shards.
struct SearchReport {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::int64_t step = 0;
  double loss = 0, train_accuracy = 0, accuracy = 0, cost = 0;
  double reward = kNone, baseline = kNone;  // where the controller was updated
  double entropy = 0, weight_rate = 0, controller_rate = 0, op_warmup = 0, filter_warmup = 0;
  int images = 0;  // trained and scored
  /// Of such a step, the numbers that do not exist are NaN.
  std::optional<NotFinite> not_finite;
};

class Searcher {
 public:
  /// Error on warm-ups longer than the delay: the controller would learn from replaced decisions.
  /// Ranks: as the Network's.
  Searcher(engine::Device& device, const Space& space, const CostModel& cost,
           const SearchConfig& config, engine::Comm& comm = engine::solo());

  std::int64_t step_number() const { return step_; }
  bool done() const { return step_ >= config_.steps; }
  /// One step; the batches are those of this rank's shards, the report is of all shards. Where the
  /// gradient is not finite it changes nothing but the step's number, where only a held-out pass is
  /// not it updates the weights alone; Error(Exit::numeric) when that happens in
  /// NotFiniteStreak::kMost steps in a row.
  SearchReport step(const NextBatch& train, const NextBatch& held_out);

  /// The most likely architecture so far.
  Arch best() const { return config_.read_every > 0 ? read_off_ : controller_.most_likely(); }
  const Controller& controller() const { return controller_; }
  Network& network() { return network_; }
  NotFiniteStreak& not_finite() { return not_finite_; }

  /// All that steps change (snapshots.cpp), and back again: the steps that follow are bit for bit
  /// those of a search that was not interrupted. Error(Exit::data) where it is another search's.
  engine::Snapshot snapshot() const;
  void restore(const engine::Checkpoint& checkpoint);

 private:
  SearchConfig config_;
  const CostModel* cost_;
  engine::Cosine weight_rate_;
  engine::DelayedExponential controller_rate_;
  Network network_;
  Controller controller_;
  std::int64_t step_ = 0;
  NotFiniteStreak not_finite_;
  Arch read_off_;
  std::vector<Sample> samples_;
  std::vector<Plan> plans_;
  std::vector<double> rewards_;
};

}  // namespace tunas::search
