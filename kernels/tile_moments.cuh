// Moments (moments.cuh) of the columns of a product, from the accumulators (multiply.cuh) of one
// tile after another: a thread adds the rows it holds about a pivot, the block's first row. The
// sums lie in shared memory between tiles, each thread's its own: beside accumulators and loads in
// flight no registers are left for them. Three instructions an element, and one more for every
// four.
#pragma once

#include "kernels/moments.cuh"
#include "kernels/multiply.cuh"

namespace tunas::kernels {

template <int kColumns>
struct TileMoments {
  using C = Accumulators<kColumns>;
  static constexpr int kSums = C::kTiles * kGemmThreads;
  static constexpr int kBytes = kSums * 16 + kColumns * 4;

  float4* sums;   // [tile of eight columns][thread]: of its two columns sums, then squares
  float* pivots;  // [kColumns]

  __device__ explicit TileMoments(void* shared)
      : sums(static_cast<float4*>(shared)), pivots(reinterpret_cast<float*>(sums + kSums)) {
#pragma unroll
    for (int n = 0; n < C::kTiles; ++n) own(n) = {0, 0, 0, 0};
  }
  __device__ float4& own(int n) const { return sums[n * kGemmThreads + threadIdx.x]; }
  __device__ float2& pivot(int n) const {
    const int pair = static_cast<int>(threadIdx.x) % 4;
    return reinterpret_cast<float2*>(pivots)[(C::first_column() + n * 8) / 2 + pair];
  }

  /// Before the first tile's put: its first row is the pivot. All threads must call it.
  __device__ void start(const C& c) const {
    if (C::first_row() == 0 && threadIdx.x % 32 < 4) {
#pragma unroll
      for (int n = 0; n < C::kTiles; ++n) pivot(n) = {c.v[0][n][0], c.v[0][n][1]};
    }
    __syncthreads();
  }
  /// A tile of which `rows` and `columns` exist; rows that do not become the pivot, which adds
  /// nothing.
  __device__ void put(C& c, int rows, int columns) const {
    if (rows < kGemmRows) clear_rows(c, rows);
#pragma unroll
    for (int n = 0; n < C::kTiles; ++n) {
      if (C::first_column() + n * 8 >= columns) break;
      const float2 p = pivot(n);
      float4 s = own(n);
#pragma unroll
      for (int m = 0; m < C::kDown; ++m) {
#pragma unroll
        for (int row = 0; row < 4; row += 2) {
          const float d0 = c.v[m][n][row] - p.x, d1 = c.v[m][n][row + 1] - p.y;
          s.x += d0;
          s.y += d1;
          s.z += d0 * d0;
          s.w += d1 * d1;
        }
      }
      own(n) = s;
    }
  }
  __device__ void clear_rows(C& c, int rows) const {
    const int first = C::first_row() + static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int n = 0; n < C::kTiles; ++n) {
      const float2 p = pivot(n);
#pragma unroll
      for (int m = 0; m < C::kDown; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (first + m * 16 + half * 8 < rows) continue;
          c.v[m][n][half * 2] = p.x;
          c.v[m][n][half * 2 + 1] = p.y;
        }
      }
    }
  }
  /// After the last put and a barrier: sum and squares of a column of the block, in the order of
  /// warps and lanes.
  __device__ float2 of(int column) const {
    const int group = column / C::kOwnColumns, n = column % C::kOwnColumns / 8;
    float2 total = {0, 0};
#pragma unroll 4
    for (int slot = 0; slot < 32; ++slot) {  // four warps of eight rows
      const int thread = (group * 4 + slot / 8) * 32 + slot % 8 * 4 + column % 8 / 2;
      const float4 s = sums[n * kGemmThreads + thread];
      total.x += column % 2 ? s.y : s.x;
      total.y += column % 2 ? s.w : s.z;
    }
    return total;
  }
};

}  // namespace tunas::kernels
