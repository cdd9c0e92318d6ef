// What a checkpoint holds of a search or a training: all that steps change and that is no function
// of the configuration and of the step's number.
//
//   weights.safetensors     every parameter and running average under its name (weights.h)
//   state.safetensors       optimizer/0, optimizer/1: the optimizer's state arrays [floats of the
//                           flat store]; averages: moving averages, once there are some;
//                           not_finite_steps (I64): how many there were in a row
//   controller.safetensors  of a search: logits, mean_squares (F64, all decisions in a row),
//                           baseline (F64: sum, weight), updates (I64); in the metadata read_off,
//                           the architecture read off last
#include <cstring>

#include "kernels/error.h"
#include "search/searcher.h"
#include "search/trainer.h"
#include "search/weights.h"

namespace tunas::search {

using engine::Checkpoint;
using engine::Safetensors;
using engine::Shape;
using engine::Snapshot;

namespace {

constexpr const char* kWeights = "weights.safetensors";
constexpr const char* kState = "state.safetensors";
constexpr const char* kController = "controller.safetensors";
constexpr const char* kAverages = "averages";
constexpr const char* kReadOff = "read_off";
constexpr const char* kStreak = "not_finite_steps";

std::string optimizer_name(int state) { return "optimizer/" + std::to_string(state); }

template <class T>
Shape shape_of(const std::vector<T>& values) {
  return {std::ssize(values)};
}

std::vector<double> joined(const std::vector<std::vector<double>>& decisions) {
  std::vector<double> all;
  for (const auto& one : decisions) all.insert(all.end(), one.begin(), one.end());
  return all;
}

void read_joined(const Safetensors& file, const char* name,
                 std::vector<std::vector<double>>& decisions) {
  std::vector<double> all = joined(decisions);
  file.read(name, "F64", shape_of(all), all.data());
  auto at = all.begin();
  for (auto& one : decisions) {
    std::copy_n(at, one.size(), one.begin());
    at += std::ssize(one);
  }
}

/// What searches and trainings have in common, the network's files first.
Snapshot begun(std::int64_t step, const Network& network, const NotFiniteStreak& streak) {
  Snapshot snapshot;
  snapshot.step = step;
  network.save(snapshot);
  snapshot.files.back().tensors.emplace_back(kStreak, "I64", Shape{1},
                                             std::vector<std::int64_t>{streak.length()});
  return snapshot;
}

void restore_common(const Checkpoint& checkpoint, Network& network, NotFiniteStreak& streak) {
  network.restore(checkpoint);
  std::int64_t length = 0;
  checkpoint.file(kState).read(kStreak, "I64", {1}, &length);
  streak.restore(static_cast<int>(length));
}

}  // namespace

void Network::save(Snapshot& snapshot) const {
  Snapshot::File weights{kWeights, {}, {{"space", supernet_.space().name}}};
  for (const engine::Param& param : params_.params()) {
    weights.tensors.emplace_back(param.name, "F32", param.shape, read_dense(params_, param));
  }
  Snapshot::File state{kState, {}, {}};
  for (int i = 0; i < config_.optimizer.states(); ++i) {
    std::vector<float> values(params_.size());
    device_->copy(values.data(), params_.state(i), values.size() * sizeof(float));
    device_->sync();
    const Shape shape = shape_of(values);
    state.tensors.emplace_back(optimizer_name(i), "F32", shape, std::move(values));
  }
  if (std::vector<float> values = average_.read(params_); !values.empty()) {
    const Shape shape = shape_of(values);
    state.tensors.emplace_back(kAverages, "F32", shape, std::move(values));
  }
  snapshot.files.push_back(std::move(weights));
  snapshot.files.push_back(std::move(state));
}

void Network::restore(const Checkpoint& checkpoint) {
  search::load_weights(params_, checkpoint.file(kWeights), supernet_.space().name);
  const Safetensors& state = checkpoint.file(kState);
  std::vector<float> values(params_.size());
  for (int i = 0; i < config_.optimizer.states(); ++i) {
    state.read(optimizer_name(i), "F32", shape_of(values), values.data());
    device_->copy(params_.state(i), values.data(), values.size() * sizeof(float));
    device_->sync();
  }
  values.clear();
  if (average_.on() && state.find(kAverages) != nullptr) {
    values.resize(params_.size() + params_.running_size());
    state.read(kAverages, "F32", shape_of(values), values.data());
  }
  average_.write(params_, values);
}

Snapshot Searcher::snapshot() const {
  Snapshot snapshot = begun(step_, network_, not_finite_);
  const ControllerState& state = controller_.state();
  Snapshot::File file{kController, {}, {{kReadOff, read_off_.indices()}}};
  const auto add = [&](const char* name, const char* type, auto values) {
    const Shape shape = shape_of(values);
    file.tensors.emplace_back(name, type, shape, std::move(values));
  };
  add("logits", "F64", joined(state.logits));
  add("mean_squares", "F64", joined(state.mean_squares));
  add("baseline", "F64", std::vector<double>{state.baseline.sum, state.baseline.weight});
  add("updates", "I64", std::vector<std::int64_t>{state.updates});
  snapshot.files.push_back(std::move(file));
  return snapshot;
}

void Searcher::restore(const Checkpoint& checkpoint) {
  const Safetensors& file = checkpoint.file(kController);
  ControllerState state = controller_.state();
  read_joined(file, "logits", state.logits);
  read_joined(file, "mean_squares", state.mean_squares);
  double baseline[2] = {};
  file.read("baseline", "F64", {2}, baseline);
  state.baseline.sum = baseline[0];
  state.baseline.weight = baseline[1];
  file.read("updates", "I64", {1}, &state.updates);
  const auto read_off = file.metadata().find(kReadOff);
  if (read_off == file.metadata().end()) {
    fail(Exit::data, file.path(), ": its metadata lacks ", kReadOff,
         "; was it written by this program?");
  }
  read_off_ = Arch::parse(read_off->second, network_.supernet().space());
  restore_common(checkpoint, network_, not_finite_);
  controller_.restore(state);
  step_ = checkpoint.step();
}

Snapshot Trainer::snapshot() const { return begun(step_, network_, not_finite_); }

void Trainer::restore(const Checkpoint& checkpoint) {
  restore_common(checkpoint, network_, not_finite_);
  step_ = checkpoint.step();
}

}  // namespace tunas::search
