// Squeeze-and-excite: y = x * (off + on*gate(W2 act(W1 mean_hw(x) + b1) + b2))   (section 6)
// The scaling is left to the reader of the result (Raw::gate), so no tensor is written.
// (off, on) = (0, 1); in the all-operations state (1/2, 1/2), the average with "off".
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

struct SqueezeExcite {
  Weight reduce, reduce_bias;  // [hidden][c]
  Weight expand, expand_bias;  // [c][hidden]
  int hidden = 0;              // active hidden width
  Act gate = Act::sigmoid;
  float off = 0, on = 1;
  float decay = 0;
};

/// `x` must have no other reader than the one of the result.
Raw squeeze_excite(Tape& tape, const Raw& x, const SqueezeExcite& op);

}  // namespace tunas::engine
