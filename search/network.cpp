#include "search/network.h"

#include <algorithm>

#include "engine/ops/softmax_xent.h"
#include "engine/safetensors.h"
#include "kernels/error.h"

namespace tunas::search {

using engine::Arena;
using engine::Param;
using engine::Pass;
using engine::Range;
using engine::Tape;

Network::Network(engine::Device& device, const Space& space, const NetworkConfig& config)
    : device_(&device),
      config_(config),
      supernet_(space, params_, config.supernet),
      arena_(Arena::dry()),
      tape_(device.stream(), arena_, params_, device.activation_type()) {
  params_.allocate(device, config.shards, config.optimizer.states());
  params_.init(config.seed);
  config_.optimizer.start(params_);
  const auto most = static_cast<std::size_t>(std::max(config.train_batch, config.validation_batch));
  loss_.resize(most);
  rank_.resize(most);
  // Smaller architectures leave gaps that the largest one does not have: an eighth for them.
  const std::size_t bytes = dry_run_bytes();
  activations_ = device.alloc(bytes + bytes / 8);
  arena_ = Arena(activations_.data(), activations_.bytes());
}

namespace {

const char* name_of(Pass pass) {
  switch (pass) {
    case Pass::train:
      return "forward";
    case Pass::search_validation:
      return "validation";
    case Pass::evaluate:
      return "evaluation";
  }
  return "";
}

}  // namespace

std::size_t Network::dry_run_bytes() {
  const Plan plan = supernet_.plan(Arch::largest(supernet_.space()));
  Tally tally;
  Arena arena = Arena::dry();
  Tape tape({Kind::dry, &tally}, arena, params_, device_->activation_type());
  Batch batch;
  const auto sized = [&batch](int images) {
    batch.crops.resize(static_cast<std::size_t>(images));
    batch.labels.resize(static_cast<std::size_t>(images));
  };
  sized(config_.train_batch);
  tape.reset(Pass::train);
  forward(tape, batch, plan, {});
  tape.backward();
  sized(config_.validation_batch);
  tape.reset(Pass::search_validation);
  forward(tape, batch, plan, {});
  return arena.peak();
}

engine::Raw Network::forward(Tape& tape, const Batch& batch, const Plan& plan, PhiloxKey key) {
  const Range here(tape.stream(), &Observer::pass, name_of(tape.pass()));
  const engine::Raw logits = supernet_.forward(tape, batch, plan, key);
  engine::SoftmaxXent loss;
  loss.classes = plan.classes;
  loss.labels = batch.labels.data();
  loss.smoothing = config_.label_smoothing;
  loss.loss = loss_.data();
  loss.rank = rank_.data();
  const Tape::Layer last(tape, "loss");
  engine::softmax_xent(tape, logits, loss);
  return logits;
}

Outcome Network::train_shard(const Batch& batch, const Plan& plan, std::uint32_t step, int shard) {
  params_.begin_shard(*device_);
  tape_.reset(Pass::train);
  forward(tape_, batch, plan,
          {config_.seed, Purpose::dropout, step, static_cast<std::uint32_t>(shard)});
  tape_.backward();
  {
    const Range sum(device_->stream(), &Observer::pass, "sum");
    params_.end_shard(*device_, shard, config_.shards);
  }
  device_->sync();
  return outcome(batch);
}

void Network::update(double rate) {
  const Range here(device_->stream(), &Observer::pass, "update");
  config_.optimizer.update(params_, *device_, rate, config_.shards);
}

Outcome Network::score(const Batch& batch, const Plan& plan, Pass pass) {
  require(pass != Pass::train, "score runs forward-only passes");
  tape_.reset(pass);
  forward(tape_, batch, plan, {});
  device_->sync();
  return outcome(batch);
}

Outcome Network::outcome(const Batch& batch) const {
  Outcome result;
  result.images = batch.size();
  for (std::size_t i = 0; i < batch.labels.size(); ++i) {
    result.loss += loss_[i] / result.images;
    result.top1 += rank_[i] < 1;
    result.top5 += rank_[i] < 5;
  }
  return result;
}

std::size_t Network::parameter_bytes() const {
  std::size_t arrays = 2 + static_cast<std::size_t>(config_.optimizer.states());
  for (int shards = config_.shards; shards > 1; shards = (shards + 1) / 2) ++arrays;
  return arrays * params_.size() * sizeof(float);
}

namespace {

/// Copies between the store, whose rows may have padding channels, and a dense array.
enum class Direction : unsigned char { to_dense, to_store };
void copy_rows(const Param& param, float* stored, float* dense, Direction direction) {
  const auto in = static_cast<std::size_t>(param.weight.in);
  const auto used = static_cast<std::size_t>(param.shape.back());
  for (std::size_t row = 0; row < param.stored() / in; ++row) {
    float* a = stored + row * in;
    float* b = dense + row * used;
    if (direction == Direction::to_dense) {
      std::copy_n(a, used, b);
    } else {
      std::copy_n(b, used, a);
    }
  }
}

std::size_t dense_size(const Param& param) {
  return param.stored() / static_cast<std::size_t>(param.weight.in) *
         static_cast<std::size_t>(param.shape.back());
}

}  // namespace

void Network::save_weights(const std::string& file) const {
  std::vector<engine::StoredTensor> tensors;
  std::vector<std::vector<float>> dense;
  for (const Param& param : params_.params()) {
    dense.emplace_back(dense_size(param));
    copy_rows(param, params_.data(param.weight), dense.back().data(), Direction::to_dense);
    tensors.push_back({param.name, "F32", param.shape, dense.back().data()});
  }
  engine::write_safetensors(file, tensors, {{"space", supernet_.space().name}});
}

void Network::load_weights(const std::string& file) {
  const engine::Safetensors tensors(file);
  for (const engine::Safetensors::Entry& entry : tensors.entries()) {
    if (!params_.find(entry.name)) {
      fail(Exit::data, file, ": tensor ", entry.name, " belongs to no layer of ",
           supernet_.space().name, "; pass the architecture these weights were trained with");
    }
  }
  for (const Param& param : params_.params()) {
    std::vector<float> dense(dense_size(param));
    tensors.read(param.name, "F32", param.shape, dense.data());
    copy_rows(param, params_.data(param.weight), dense.data(), Direction::to_store);
  }
}

}  // namespace tunas::search
