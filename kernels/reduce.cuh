// Reductions with a fixed order: a block leaves partial sums in the workspace, a second small
// kernel adds them chunk by chunk. Chunks depend on the shape only, so the bits are the same on
// every card and in every run; there are no float atomics.
#pragma once

#include "kernels/source.cuh"

namespace tunas::kernels {

/// How [rows][c] is cut over threads: `lanes` threads side by side, `pack` channels each, `slots`
/// such rows in a block, `groups` blocks side by side (grid.x).
struct Cut {
  int pack, lanes, slots, groups;

  __host__ __device__ int threads() const { return lanes * slots; }
  /// Blocks along grid.y that share `work` items (one a slot) when about `blocks` are wanted.
  int chunks(long work, int blocks) const {
    const int limit = blocks / groups > 1 ? blocks / groups : 1;
    const int sets = ceil_div(work, slots);
    return ceil_div(sets, ceil_div(sets, limit));
  }
};

/// At most 64 lanes, and as many slots as fill whole warps best within `threads`.
inline Cut cut_channels(int c, int pack, int threads) {
  const int packs = ceil_div(c, pack);
  const int groups = ceil_div(packs, 64);
  const int lanes = ceil_div(packs, groups);
  int slots = 1;
  double best = 0;
  for (int s = 1; lanes * s <= threads; ++s) {
    const double filled = static_cast<double>(lanes * s) / (ceil_div(lanes * s, 32) * 32);
    const double value = filled * (1 - 8.0 / (lanes * s + 16));  // full warps, then more threads
    if (value > best) {
      best = value;
      slots = s;
    }
  }
  return {pack, lanes, slots, groups};
}

/// Sums v[0..V) over the slots of a block in order and calls emit(index, lane, sum) once for each
/// index and lane, lanes fastest. `buffer` holds kBatch floats a thread. All threads must call it.
inline constexpr int kBatch = 8;

template <int V, class Emit>
__device__ inline void sum_slots(const float (&v)[V], float* buffer, int lanes, int slots,
                                 const Emit& emit) {
  const int threads = lanes * slots;
  const int t = threadIdx.x;
#pragma unroll
  for (int base = 0; base < V; base += kBatch) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (base + i < V) buffer[i * threads + t] = v[base + i < V ? base + i : 0];
    }
    __syncthreads();
    const int count = V - base < kBatch ? V - base : kBatch;
    for (int e = t; e < count * lanes; e += threads) {
      const int i = e / lanes, lane = e - i * lanes;
      float sum = 0;
      for (int s = 0; s < slots; ++s) sum += buffer[i * threads + s * lanes + lane];
      emit(base + i, lane, sum);
    }
  }
}

/// out[r*ld + j] (+)= factor[j] * sum over chunks of partial[chunk*stride + r*width + j]
///                    + decay*w[r*ld + j]
struct OrderedSum {
  const float* partial = nullptr;
  int chunks = 0;
  long stride = 0;
  int rows = 1, width = 0, ld = 0;
  float* out = nullptr;
  Write how = Write::accumulate;
  const float* factor = nullptr;  // [width]; null: 1
  const void* w = nullptr;        // null: no decay
  DType w_type = DType::f32;
  float decay = 0;
};

struct OrderedSums {
  static constexpr int kMax = 8;  // two of each term of a mix
  int count = 0;
  OrderedSum s[kMax];

  void add(const OrderedSum& sum) { s[count++] = sum; }
};

/// One launch for all of them.
void add_in_order(const CudaContext& context, const OrderedSums& sums);

/// The two sums of a SourceGrad whose partials are [chunks][first, first + 1][c].
void add_source_sums(OrderedSums& sums, const SourceGrad& grad, const float* partial, int chunks,
                     long stride, int c);

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
