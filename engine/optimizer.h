// Optimizer: one fused update over the flat store. Formulas: kernels/update.h.
#pragma once

#include "engine/param.h"
#include "kernels/update.h"

namespace tunas::engine {

struct Optimizer {
  enum class Kind : unsigned char { rms_prop, sgd } kind = Kind::rms_prop;
  float momentum = 0.9f;
  float decay = 0.9f;    // of the mean square, rms_prop
  float epsilon = 1.0f;  // inside the root, rms_prop
  /// sgd: of every parameter, as PyTorch has it. Of convolutions alone, as published, the decay is
  /// part of their gradients (search/supernet.h).
  float weight_decay = 0;

  /// State arrays to ask the store for: rms_prop {mean square, momentum}, sgd {momentum}.
  int states() const { return kind == Kind::rms_prop ? 2 : 1; }
  /// Initial state: mean square 1, momentum 0 (specification section 9).
  void start(ParamStore& store) const;
  /// Updates the masters, and the shadow where there is one, with the mean over `shards` of the
  /// summed gradients. `verdict`, in the device's memory: where it counts any element nothing is
  /// touched (kernels/update.h).
  void update(ParamStore& store, double rate, int shards, const kernels::Verdict* verdict) const;
};

}  // namespace tunas::engine
