// Pointwise convolution, [bias], [batch norm], activation left to the reader.
// Kept for backward: x and y, both raw. Formula and floor: kernels/pointwise.h.
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

struct Pointwise {
  Weight w;
  int out = 0;      // active output width; y is round_up_8(out) wide
  Weight bias;      // none: no bias
  NormWeight norm;  // none: no norm
  Act act = Act::none;
  float decay = 0;  // L2, times the mask product of the enclosing decisions
  /// `unstored` is never written while its readers are depthwise convolutions, which make it again;
  /// an `activation` is where that moves fewer bytes.
  enum class Output : unsigned char { activation, unstored, logits } output = Output::activation;
};

Raw pointwise(Tape& tape, const Raw& x, const Pointwise& op);

}  // namespace tunas::engine
