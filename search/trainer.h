// Trainer: a network trained alone (a Space with one point), with running averages for evaluation;
// specification section 16.
#pragma once

#include <variant>

#include "engine/schedule.h"
#include "search/network.h"
#include "search/searcher.h"

namespace tunas::search {

struct TrainConfig {
  NetworkConfig network;  // train_batch: images of a shard
  std::int64_t steps = 0;
  std::variant<engine::Cosine, engine::Staircase> rate;
};

struct TrainReport {
  std::int64_t step = 0;
  double loss = 0, accuracy = 0, rate = 0;
  int images = 0;
  /// Of such a step, the numbers that do not exist are NaN.
  std::optional<NotFinite> not_finite;
};

class Trainer {
 public:
  /// `space` must have one point (Space::only). Ranks: as the Network's.
  Trainer(engine::Device& device, const Space& space, const TrainConfig& config,
          engine::Comm& comm = engine::solo());

  std::int64_t step_number() const { return step_; }
  bool done() const { return step_ >= config_.steps; }
  /// One step; the batches are those of this rank's shards, the report is of all shards. Where the
  /// gradient is not finite it changes nothing but the step's number; Error(Exit::numeric) when
  /// that happens in NotFiniteStreak::kMost steps in a row.
  TrainReport step(const NextBatch& train);
  /// One batch with the running averages; its outcome comes with the network's next wait(). An
  /// empty batch has none.
  void evaluate(const Batch& batch);
  Network& network() { return network_; }
  NotFiniteStreak& not_finite() { return not_finite_; }

  /// As the Searcher's.
  engine::Snapshot snapshot() const;
  void restore(const engine::Checkpoint& checkpoint);

 private:
  TrainConfig config_;
  Network network_;
  Plan plan_;
  std::int64_t step_ = 0;
  NotFiniteStreak not_finite_;
};

/// Sums outcomes of batches: losses weighted by images.
void accumulate(Outcome& sum, const Outcome& part);

}  // namespace tunas::search
