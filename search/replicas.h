// Every rank of a run has the same weights, bit for bit: each adds the same sums to the same
// weights. Hardware that errs breaks that silently; this notices.
#pragma once

#include <cstdint>

#include "engine/comm.h"
#include "engine/param.h"

namespace tunas::search {

/// Compares XXH64 of each parameter and of what the optimizer knows of it (not what follows from
/// them: shadow and moving averages) over the ranks of `comm`,
/// which all call this at the same `step`; it waits for the device. Error(Exit::numeric) on every
/// rank, naming the first parameter that is not the same everywhere and the ranks that differ from
/// the majority.
void check_replicas(engine::Comm& comm, const engine::ParamStore& params, std::int64_t step);

}  // namespace tunas::search
