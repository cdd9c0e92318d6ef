// Network: a supernet with its memory. Takes everything it will ever need when it is made (sizes
// from a dry run of the largest state); passes and updates allocate nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/optimizer.h"
#include "engine/tape.h"
#include "search/supernet.h"

namespace tunas::search {

/// What a pass over one batch found.
struct Outcome {
  double loss = 0;  // mean cross-entropy, L2 not included
  int images = 0, top1 = 0, top5 = 0;

  double accuracy() const { return images > 0 ? static_cast<double>(top1) / images : 0; }
};

struct NetworkConfig {
  SupernetConfig supernet;
  engine::Optimizer optimizer;
  int train_batch = 128;       // images of a shard
  int validation_batch = 512;  // images of a shard's forward-only pass
  int shards = 1;
  float label_smoothing = 0.1f;
  std::uint64_t seed = 0;
};

class Network {
 public:
  Network(engine::Device& device, const Space& space, const NetworkConfig& config);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const Supernet& supernet() const { return supernet_; }
  engine::ParamStore& params() { return params_; }
  const engine::ParamStore& params() const { return params_; }

  /// Forward and backward of one shard; its gradients join the sum of the step. Shards come in
  /// order, `step` keys the dropout.
  Outcome train_shard(const Batch& batch, const Plan& plan, std::uint32_t step, int shard);
  /// Applies the mean gradient of the step's shards.
  void update(double rate);
  /// Forward only.
  Outcome score(const Batch& batch, const Plan& plan, engine::Pass pass);

  /// Bytes of parameters, gradients and optimizer state; and of the activation arena.
  std::size_t parameter_bytes() const;
  std::size_t activation_bytes() const { return activations_.bytes(); }

  /// Every parameter under its name, as float32 safetensors. Error naming the file.
  void save_weights(const std::string& file) const;
  /// Error naming the tensor that is missing, unknown or of another shape.
  void load_weights(const std::string& file);

 private:
  Outcome outcome(const Batch& batch) const;
  engine::Raw forward(engine::Tape& tape, const Batch& batch, const Plan& plan, PhiloxKey key);
  std::size_t dry_run_bytes();

  engine::Device* device_;
  NetworkConfig config_;
  engine::ParamStore params_;
  Supernet supernet_;
  engine::Memory activations_;
  std::vector<float> loss_;
  std::vector<std::int32_t> rank_;
  engine::Arena arena_;
  engine::Tape tape_;
};

}  // namespace tunas::search
