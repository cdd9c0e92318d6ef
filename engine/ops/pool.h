// Global average pooling: [n][h][w][c] -> [n][1][1][c]. Formula and floor: kernels/pool.h; over a
// convolution's output backward makes no pass at all (kernels/spread.h).
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

Var pool(Tape& tape, const Raw& x);

/// The squeeze of squeeze-and-excite: x then wants one more reader, a gated one, whose backward
/// begins the gradient (SourceGrad::dgate) that this one's completes.
Var squeeze(Tape& tape, Raw& x);

}  // namespace tunas::engine
