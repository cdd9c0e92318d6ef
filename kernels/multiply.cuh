// The product of two stages (stage.cuh) in shared memory, C[M][N] += A[M][K]*B[N][K]^T for one
// step of K: bf16 on tensor cores, float by plain fused multiply-adds in the order of k. Both
// leave a thread the same elements of C, so that whoever reads the accumulators need not know.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/stage.cuh"

namespace tunas::kernels {

inline constexpr int kGemmRows = 128;

/// Warps stand four deep; each has a quarter of the rows and its share of the columns of C, in
/// tiles of 16 x 8. Of a tile lane l holds rows l/4 and l/4 + 8, columns 2*(l%4) and the next one.
template <int kColumns, int kRows = kGemmRows, int kThreads = kGemmThreads>
struct Accumulators {
  static constexpr int kOwnRows = kRows / 4, kOwnColumns = kColumns / (kThreads / 128);
  static constexpr int kDown = kOwnRows / 16, kTiles = kOwnColumns / 8;
  static_assert(kOwnRows % 16 == 0 && kOwnColumns % 16 == 0);
  float v[kDown][kTiles][4];

  __device__ void clear() {
#pragma unroll
    for (auto& m : v) {
#pragma unroll
      for (auto& n : m) {
#pragma unroll
        for (float& x : n) x = 0;
      }
    }
  }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / 32 % 4 * kOwnRows; }
  __device__ static int first_column() {
    return static_cast<int>(threadIdx.x) / 32 / 4 * kOwnColumns;
  }
  /// Calls f(row, column, two neighbouring values).
  template <class F>
  __device__ void each(const F& f) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < kDown; ++m) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int row = first_row() + m * 16 + lane / 4;
        const int column = first_column() + n * 8 + lane % 4 * 2;
        f(row, column, v[m][n][0], v[m][n][1]);
        f(row + 8, column, v[m][n][2], v[m][n][3]);
      }
    }
  }
};

/// Sixteen values of K, from k.
template <class StageA, class StageB, class C>
__device__ inline void multiply_step(const bf16* a, const bf16* b, int k, C& c) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int j = lane / 8, r = lane % 8;  // row r of matrix j
  const int row0 = c.first_row(), column0 = c.first_column();
  unsigned fa[C::kDown][4];
#pragma unroll
  for (int m = 0; m < C::kDown; ++m) {
    const int row = row0 + m * 16 + j % 2 * 8, depth = k + j / 2 * 8;
    if constexpr (StageA::kOrder == Order::along) {
      load_matrices<false>(fa[m], a + (row + r) * StageA::kStride + depth);
    } else {
      load_matrices<true>(fa[m], a + (depth + r) * StageA::kStride + row);
    }
  }
#pragma unroll
  for (int n = 0; n < C::kTiles / 2; ++n) {
    unsigned fb[4];
    const int column = column0 + n * 16 + j / 2 * 8, depth = k + j % 2 * 8;
    if constexpr (StageB::kOrder == Order::along) {
      load_matrices<false>(fb, b + (column + r) * StageB::kStride + depth);
    } else {
      load_matrices<true>(fb, b + (depth + r) * StageB::kStride + column);
    }
#pragma unroll
    for (int m = 0; m < C::kDown; ++m) {
      multiply_add(c.v[m][2 * n], fa[m], fb[0], fb[1]);
      multiply_add(c.v[m][2 * n + 1], fa[m], fb[2], fb[3]);
    }
  }
}

template <class StageA, class StageB, int kColumns>
__device__ inline void multiply(const bf16* a, const bf16* b, Accumulators<kColumns>& c) {
#pragma unroll
  for (int k = 0; k < kGemmDepth<bf16>; k += 16) multiply_step<StageA, StageB>(a, b, k, c);
}

/// Four values of K, from k, of one row of a stage.
template <class Stage>
__device__ inline void load_depth(const float* stage, int row, int k, float (&v)[4]) {
  if constexpr (Stage::kOrder == Order::along) {
    load(stage + row * Stage::kStride + k, v);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = stage[(k + i) * Stage::kStride + row];
  }
}

template <class StageA, class StageB, int kColumns>
__device__ inline void multiply(const float* a, const float* b, Accumulators<kColumns>& c) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row0 = c.first_row() + lane / 4, column0 = c.first_column() + lane % 4 * 2;
#pragma unroll 1
  for (int k = 0; k < kGemmDepth<float>; k += 4) {
    float va[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) load_depth<StageA>(a, row0 + i * 8, k, va[i]);
#pragma unroll
    for (int n = 0; n < c.kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float vb[4];
        load_depth<StageB>(b, column0 + n * 8 + j, k, vb);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int d = 0; d < 4; ++d) c.v[i / 2][n][i % 2 * 2 + j] += va[i][d] * vb[d];
        }
      }
    }
  }
}

}  // namespace tunas::kernels
