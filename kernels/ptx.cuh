// Instructions that C++ has no word for: the only inline assembly. tests/emulation has a file of
// the same name that computes the same.
#pragma once

#include "kernels/vendor/cuda.h"

namespace tunas::kernels {

/// max(z, 0) and min(z, 6), but NaN stays NaN, so that a diverged network shows itself.
__device__ inline float relu_of(float z) {
  asm("max.NaN.f32 %0, %0, 0f00000000;" : "+f"(z));
  return z;
}
__device__ inline float at_most_6(float z) {
  asm("min.NaN.f32 %0, %0, 0f40C00000;" : "+f"(z));
  return z;
}

/// Four 8x8 matrices of bf16 from shared memory; lane 8*j + r gives the address of row r of
/// matrix j. Transposed: every matrix is turned on the way.
template <bool kTransposed>
__device__ inline void load_matrices(unsigned (&v)[4], const bf16* row) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at)
                 : "memory");
  }
}

/// D[16][8] += A[16][16]*B[16][8], bf16 in, float out, one warp. Lane l holds of D rows l/4 and
/// l/4 + 8, columns 2*(l%4) and the next one.
__device__ inline void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                    unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace tunas::kernels
