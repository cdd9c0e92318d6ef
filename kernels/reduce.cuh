// Reductions with a fixed order: a block leaves partial sums in the workspace, a second small
// kernel adds them chunk by chunk. Chunks depend on the shape only, so the bits are the same on
// every card and in every run; there are no float atomics.
#pragma once

#include "kernels/source.h"
#include "kernels/vendor/cuda.h"

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
/// index and lane, lanes fastest. `buffer` holds kBatch floats a thread. All threads must call it;
/// those beyond lanes*slots have no part in it.
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
      if (base + i < V && t < threads) buffer[i * threads + t] = v[base + i < V ? base + i : 0];
    }
    __syncthreads();
    const int count = V - base < kBatch ? V - base : kBatch;
    for (int e = t; e < count * lanes && t < threads; e += threads) {
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

}  // namespace tunas::kernels
