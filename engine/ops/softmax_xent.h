// Softmax cross-entropy with label smoothing: the end of the tape, it seeds the gradient.
// Formula: kernels/softmax_xent.h.
#pragma once

#include <cstdint>

#include "engine/ops/raw.h"

namespace tunas::engine {

struct SoftmaxXent {
  int classes = 0;
  const std::int32_t* labels = nullptr;  // [n]
  float smoothing = 0;
  float* loss = nullptr;         // [n], outlives the pass
  std::int32_t* rank = nullptr;  // [n], outlives the pass
};

void softmax_xent(Tape& tape, const Raw& logits, const SoftmaxXent& op);

}  // namespace tunas::engine
