// Who computes the matrix products of a context: our own loops (gemm_loops.h), or oneDNN's sgemm
// behind the same table, kept as oracle and for comparison (bench/kernels/pointwise_bench).
#pragma once

#include "kernels/gemm_loops.h"
#include "kernels/stream.h"

namespace tunas::kernels::cpu {

/// `automatic` is own: faster or level at the widths measured (bench/results/cpu-kernels.json).
const GemmLoops& gemm(const CpuContext& context);

/// Throws Error(usage) where `kernels` asks for a library that this build lacks.
void check_available(Kernels kernels);

}  // namespace tunas::kernels::cpu
