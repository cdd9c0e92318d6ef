// Mix: the weighted sum of sources, written out: residual sums, the average of enabled operations
// in warm-up, or one source normalised and activated. Formula and floor: kernels/mix.h.
#pragma once

#include <span>

#include "engine/ops/raw.h"

namespace tunas::engine {

struct Term {
  float weight = 1;
  Raw x;
};

Var mix(Tape& tape, std::span<const Term> terms);

/// The same, but a single term of weight 1 stays the Raw it is.
Raw combine(Tape& tape, std::span<const Term> terms);

}  // namespace tunas::engine
