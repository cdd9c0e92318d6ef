// Network: a supernet with its memory. Takes everything it will ever need when it is made (sizes
// from a dry run of the largest state); passes and updates allocate nothing. On a GPU they return
// as soon as their work is on its stream: one wait() a step brings the outcomes of all its passes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/average.h"
#include "engine/checkpoint.h"
#include "engine/graphs.h"
#include "engine/inputs.h"
#include "engine/optimizer.h"
#include "engine/tape.h"
#include "search/results.h"
#include "search/supernet.h"

namespace tunas::search {

struct NetworkConfig {
  SupernetConfig supernet;
  engine::Optimizer optimizer;
  int train_batch = 128;       // images of a shard
  int validation_batch = 512;  // images of a shard's forward-only pass
  int shards = 1;
  float label_smoothing = 0.1f;  // an evaluation's loss is plain cross-entropy
  std::uint64_t seed = 0;
  double average = 0;  // decay of the weights' moving averages, which scoring may use; 0: none
  /// Of forward-only passes: whether outcomes hold the logits, and not only what they come to.
  enum class Logits : unsigned char { drop, keep } logits = Logits::drop;
  /// A fixed plan is always the same one: its passes are recorded and replayed (engine/graphs.h).
  enum class Plans : unsigned char { varying, fixed } plans = Plans::varying;
};

class Network {
 public:
  /// Error(Exit::memory) where the device's memory does not suffice, saying how many images a
  /// shard may have. The shards are spread over the ranks of `comm`, a run of them to each;
  /// Error(Exit::usage) where they do not divide. `device` and `comm` must outlive the network.
  Network(engine::Device& device, const Space& space, const NetworkConfig& config,
          engine::Comm& comm = engine::solo());
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const Supernet& supernet() const { return supernet_; }
  engine::ParamStore& params() { return params_; }
  const engine::ParamStore& params() const { return params_; }

  /// This rank's shards of a step: shards() of them from number first_shard() on.
  int shards() const { return config_.shards / comm_->size(); }
  int first_shard() const { return comm_->rank() * shards(); }

  /// Forward and backward of one shard of this rank; its gradients join the sum of the step. Shards
  /// come in order, `step` keys the dropout. `batch` may be reused at once.
  void train_shard(const Batch& batch, const Plan& plan, std::uint32_t step, int shard);
  /// Applies the mean gradient of the step's shards, unless anything in it is not finite.
  void update(double rate);
  /// Forward only.
  void score(const Batch& batch, const Plan& plan, engine::Pass pass);

  /// Outcomes of the passes since the last wait, in their order. Logits, where they are kept, have
  /// logit_row() floats an image, of which the first ones are those of the classes.
  const std::vector<Outcome>& wait();
  /// `mine` of every rank, in the order of ranks, without logits.
  std::vector<Outcome> gather(std::span<const Outcome> mine) const;
  /// On the gradient of the last update before the last wait, the same on every rank: where it
  /// counts anything, that update changed nothing.
  const kernels::Verdict& verdict() const { return results_.examined(); }
  int logit_row() const { return round_up_8(supernet_.space().classes); }

  /// The weights become their moving averages, and at the next call what they were.
  void exchange_averages() { average_.exchange(params_); }

  /// Bytes of parameters, averages, gradients and optimizer state; and of the activation arena.
  std::size_t parameter_bytes() const;
  std::size_t activation_bytes() const { return activations_.bytes(); }

  /// Every parameter under its name, as float32 safetensors. Error naming the file.
  void save_weights(const std::string& file) const;
  /// Error naming the tensor that is missing, unknown or of another shape.
  void load_weights(const std::string& file);

  /// What steps change here, as files of a checkpoint (snapshots.cpp), and back again. Error naming
  /// the tensor that is another one.
  void save(engine::Snapshot& snapshot) const;
  void restore(const engine::Checkpoint& checkpoint);

 private:
  engine::Raw forward(engine::Tape& tape, const engine::Inputs& inputs, const Plan& plan);
  void run(const Batch& batch, const PhiloxKey& key, const Plan& plan, engine::Pass pass);
  std::size_t dry_run_bytes(int train_images, int validation_images);
  std::size_t bytes(int images);
  void check_memory(std::size_t there);

  engine::Device* device_;
  engine::Comm* comm_;
  NetworkConfig config_;
  engine::ParamStore params_;
  Supernet supernet_;
  engine::WeightAverage average_;
  engine::Memory activations_;
  engine::Arena arena_;
  engine::Tape tape_;
  Results results_;
  engine::InputRing inputs_;
  engine::Graphs graphs_;
};

}  // namespace tunas::search
