#include "engine/average.h"

#include <utility>

namespace tunas::engine {

WeightAverage::WeightAverage(const ParamStore& store, double decay)
    : decay_(decay), size_(store.size()) {
  if (on()) memory_ = store.device().alloc(bytes(store));
}

float* WeightAverage::averages(const Weight& w) const {
  float* masters = reinterpret_cast<float*>(memory_.data());
  return (w.running ? masters + size_ : masters) + w.offset;
}

void WeightAverage::follow(const ParamStore& store, const kernels::Verdict* verdict) {
  if (!on()) return;
  const Stream stream = store.device().stream();
  float* mean = reinterpret_cast<float*>(memory_.data());
  // The first is a copy, but only where the device finds that there is something to follow; what
  // is there before is zero.
  const float decay = steps_ == 0 ? 0 : static_cast<float>(decay_);
  kernels::average(stream, {size_, store.masters(), mean, decay, verdict});
  kernels::average(stream, {store.running_size(), store.running(), mean + size_, decay, verdict});
  ++steps_;
}

void WeightAverage::exchange(ParamStore& store) {
  if (steps_ == 0) return;
  const Device& device = store.device();
  for (const Param& param : store.params()) {
    const std::vector<float> values = store.read(param);
    std::vector<float> means(values.size());
    device.copy(means.data(), averages(param.weight), means.size() * sizeof(float));
    device.sync();
    store.write(param, means);
    device.copy(averages(param.weight), values.data(), values.size() * sizeof(float));
    device.sync();  // before `values` is gone
  }
}

std::vector<float> WeightAverage::read(const ParamStore& store) const {
  if (steps_ == 0) return {};
  std::vector<float> values(size_ + store.running_size());
  store.device().copy(values.data(), memory_.data(), values.size() * sizeof(float));
  store.device().sync();
  return values;
}

void WeightAverage::write(const ParamStore& store, std::span<const float> values) {
  steps_ = values.empty() ? 0 : 1;
  store.device().copy(memory_.data(), values.data(), values.size_bytes());
  store.device().sync();
}

}  // namespace tunas::engine
