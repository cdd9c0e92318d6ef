#include "engine/average.h"

#include <utility>

#include "kernels/update.h"

namespace tunas::engine {

WeightAverage::WeightAverage(const ParamStore& store, double decay)
    : decay_(decay), size_(store.size()) {
  if (on()) memory_ = store.device().alloc(bytes(store));
}

float* WeightAverage::averages(const Weight& w) const {
  float* masters = reinterpret_cast<float*>(memory_.data());
  return (w.running ? masters + size_ : masters) + w.offset;
}

void WeightAverage::follow(const ParamStore& store) {
  if (!on()) return;
  const Device& device = store.device();
  float* mean = reinterpret_cast<float*>(memory_.data());
  if (!started_) {
    device.copy(mean, store.masters(), size_ * sizeof(float));
    device.copy(mean + size_, store.running(), store.running_size() * sizeof(float));
    started_ = true;
    return;
  }
  const float decay = static_cast<float>(decay_);
  kernels::average(device.stream(), {size_, store.masters(), mean, decay});
  kernels::average(device.stream(), {store.running_size(), store.running(), mean + size_, decay});
}

void WeightAverage::exchange(ParamStore& store) {
  if (!on()) return;
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
  if (!started_) return {};
  std::vector<float> values(size_ + store.running_size());
  store.device().copy(values.data(), memory_.data(), values.size() * sizeof(float));
  store.device().sync();
  return values;
}

void WeightAverage::write(const ParamStore& store, std::span<const float> values) {
  started_ = !values.empty();
  store.device().copy(memory_.data(), values.data(), values.size_bytes());
  store.device().sync();
}

}  // namespace tunas::engine
