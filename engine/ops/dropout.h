// Dropout; identity in passes that record nothing. Formula: kernels/dropout.h.
#pragma once

#include "engine/ops/raw.h"
#include "kernels/philox.h"

namespace tunas::engine {

Raw dropout(Tape& tape, const Raw& x, float rate, const PhiloxKey* key);

}  // namespace tunas::engine
