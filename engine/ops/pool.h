// Global average pooling: [n][h][w][c] -> [n][1][1][c]. Formula and floor: kernels/pool.h.
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

/// `finishes` marks the squeeze of squeeze-and-excite: its backward completes the gradient that the
/// gated reader of the same tensor began (SourceGrad::dgate).
enum class PoolRole : unsigned char { head, finishes };

Var pool(Tape& tape, const Raw& x, PoolRole role = PoolRole::head);

}  // namespace tunas::engine
