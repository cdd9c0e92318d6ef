// WeightAverage: exponential moving averages of the parameters and of the running averages of
// normalisation, kept beside the store for evaluation (formula: kernels/update.h). As torchvision's
// ExponentialMovingAverage: a copy after the first step, moving after every later one.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/param.h"
#include "kernels/update.h"

namespace tunas::engine {

class WeightAverage {
 public:
  WeightAverage() = default;  // none
  /// None where decay is 0. `store` has its memory, but not its weights yet.
  WeightAverage(const ParamStore& store, double decay);

  static std::size_t bytes(const ParamStore& store) {
    return (store.size() + store.running_size()) * sizeof(float);
  }
  bool on() const { return decay_ > 0; }

  /// After an update with the same verdict: where that touched nothing, this does not either.
  void follow(const ParamStore& store, const kernels::Verdict* verdict);
  /// The last update touched nothing.
  void was_skipped() { steps_ -= on() ? 1 : 0; }
  /// The store gets the averages, where there are some, and they what the store had; twice restores
  /// both.
  void exchange(ParamStore& store);

  /// All averages, those of the masters first, to and from the host's memory; none before the first
  /// step.
  std::vector<float> read(const ParamStore& store) const;
  void write(const ParamStore& store, std::span<const float> values);

 private:
  float* averages(const Weight& w) const;

  double decay_ = 0;
  long steps_ = 0;  // followed, by this object or one that it goes on from
  std::size_t size_ = 0;
  Memory memory_;  // [masters | running averages]
};

}  // namespace tunas::engine
