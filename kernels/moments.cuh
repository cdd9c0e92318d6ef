// Moments (source.h) on their way through a kernel: a thread keeps sums about a pivot, a block adds
// them and leaves its count, pivot, sum and squares, one more kernel makes mean and M2 of each and
// merges them chunk by chunk.
//
//   mean = pivot + sum/n;  M2 = squares - sum^2/n;  variance = M2/n
#pragma once

#include "kernels/reduce.cuh"

namespace tunas::kernels {

/// Sums and squares of N channels about a pivot, the first value seen (the caller counts): exact
/// for constant data, and free of E[x^2] - E[x]^2's cancellation because the pivot lies among the
/// data.
template <int N>
struct PivotSums {
  int count = 0;
  float pivot[N] = {}, sum[N] = {}, squares[N] = {};

  __device__ void start(const float* v) {
    if (count > 0) return;
#pragma unroll
    for (int i = 0; i < N; ++i) pivot[i] = v[i];
  }
  __device__ void put(const float* v) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float d = v[i] - pivot[i];
      sum[i] += d;
      squares[i] += d * d;
    }
  }
  /// The same data about another pivot.
  __device__ void move(int i, float to) {
    const float d = pivot[i] - to, n = static_cast<float>(count);
    squares[i] += d * (2 * sum[i] + n * d);
    sum[i] += n * d;
    pivot[i] = to;
  }
};

inline constexpr int kMomentRows = 4;  // count, pivot, sum, squares

/// Count, mean and sum of squared distances from it.
struct MeanM2 {
  float count, mean, m2;
};

/// Of the sums of n values and their squares about a pivot.
__device__ inline MeanM2 mean_m2(float n, float pivot, float sum, float squares) {
  if (n == 0) return {0, 0, 0};
  const float m2 = squares - sum * sum / n;
  return {n, pivot + sum / n, m2 < 0 ? 0 : m2};
}

/// Chan, Golub, LeVeque 1979.
__device__ inline void merge(MeanM2& into, const MeanM2& o) {
  if (o.count == 0) return;
  const float total = into.count + o.count;
  const float d = o.mean - into.mean, share = o.count / total;
  into.mean += d * share;
  into.m2 += o.m2 + d * d * into.count * share;
  into.count = total;
}

/// Leaves a block's moments in partial [4][c]: every slot's spread about the pivot of slot 0, then
/// sums over the slots. `first`: the block's first channel. All threads must call it.
template <int N>
__device__ inline void write_moments(PivotSums<N>& spread, float* buffer, int lanes, int slots,
                                     int first, int c, float* partial) {
  const int slot = static_cast<int>(threadIdx.x) / lanes;
  const int lane = static_cast<int>(threadIdx.x) - slot * lanes;
  float sums[2 * N + 1];
  sums[2 * N] = static_cast<float>(spread.count);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    __syncthreads();
    if (slot == 0) buffer[lane] = spread.pivot[i];
    __syncthreads();
    const float pivot = buffer[lane];
    spread.move(i, pivot);
    sums[2 * i] = spread.sum[i];
    sums[2 * i + 1] = spread.squares[i];
    const int at = first + lane * N + i;
    if (slot == 0 && at < c) partial[c + at] = pivot;
  }
  sum_slots(sums, buffer, lanes, slots, [&](int v, int l, float sum) {
    const bool count = v == 2 * N;  // one for all N channels
    for (int i = count ? 0 : v / 2; i <= (count ? N - 1 : v / 2); ++i) {
      const int at = first + l * N + i;
      if (at < c) partial[(count ? 0 : 2 + v % 2) * c + at] = sum;
    }
  });
}

/// mean and variance of each channel from partials [chunks][4][c]: count, pivot, sum and squares.
void merge_moments(const CudaContext& context, const float* partial, int chunks, int c,
                   const Moments& moments);

}  // namespace tunas::kernels
