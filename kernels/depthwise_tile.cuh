// A tile of a depthwise kernel (depthwise.cuh) as one block sees it: which it is, which patches of
// it a thread has, and how they are read. In shared memory it lies as [row][pair of
// channels][column][2] floats: the columns of a thread are neighbours, so its loads have fixed
// offsets, and the odd pitch of a pair spreads the threads of a warp over the banks. Outside the
// image there are zeros.
#pragma once

#include "kernels/depthwise.cuh"
#include "kernels/pack.cuh"

namespace tunas::kernels {

/// Where a thread stands: its channels, and its first of the patches of a tile.
struct TilePlace {
  int lane, slot, channel;
  bool idle;
  int down, across;

  __device__ TilePlace(const Tiling& t, int channels, int c) {
    slot = static_cast<int>(threadIdx.x) / t.lanes;
    lane = static_cast<int>(threadIdx.x) - slot * t.lanes;
    channel = static_cast<int>(blockIdx.x) * t.packs * kTilePack + lane * channels;
    idle = channel >= c;
    if (idle) channel = 0;
    down = slot / t.patches_across;
    across = slot - down * t.patches_across;
  }

  /// Calls compute(row, column) of the thread's patches of a tile, counted in patches.
  template <class Compute>
  __device__ void each_patch(const Tiling& t, const Compute& compute) const {
    if (idle) return;
    for (int y = down, x = across; y < t.patches_down;) {
      compute(y, x);
      y += t.down_step;
      x += t.across_step;
      if (x >= t.patches_across) {
        x -= t.patches_across;
        ++y;
      }
    }
  }
};

/// The tiles of a block, one after another; neighbours of a run lie below one another. Rows and
/// columns count outputs.
struct TileRun {
  int left;  // tiles to come
  int image, down, across;

  __device__ explicit TileRun(const Tiling& t) {
    const int begin = static_cast<int>(blockIdx.y) * t.run;
    left = t.tiles - begin < t.run ? t.tiles - begin : t.run;
    const int strip = begin / t.tiles_down;
    image = strip / t.tiles_across;
    down = begin - strip * t.tiles_down;
    across = strip - image * t.tiles_across;
  }
  __device__ void next(const Tiling& t) {
    --left;
    if (++down < t.tiles_down) return;
    down = 0;
    if (++across < t.tiles_across) return;
    across = 0;
    ++image;
  }
  __device__ int row(const Tiling& t, const Patch& p) const {
    return down * t.patches_down * p.rows;
  }
  __device__ int column(const Tiling& t, const Patch& p) const {
    return across * t.patches_across * p.columns;
  }
};

/// The block's weights behind its tile in shared memory, [pair][k*k][2]: k*k is odd.
template <class T>
__device__ inline void load_taps(const Filter& w, const Tiling& t, int c, float* taps) {
  const int size = w.k * w.k, pairs = t.packs * kTilePack / 2;
  const int first = static_cast<int>(blockIdx.x) * pairs * 2;
  for (int i = static_cast<int>(threadIdx.x); i < size * pairs; i += static_cast<int>(blockDim.x)) {
    const int tap = i / pairs, pair = i - tap * pairs;
    if (first + pair * 2 >= c) continue;
    float v[2];
    load(static_cast<const T*>(w.data) + static_cast<long>(tap) * w.in.max + first + pair * 2, v);
    *reinterpret_cast<float2*>(taps + (pair * size + tap) * 2) = {v[0], v[1]};
  }
}

/// N neighbours of a thread's channels: columns of a row of a tile, or taps.
template <int kChannels, int N>
__device__ inline void read_pairs(const float* from, float (&u)[N * kChannels]) {
#pragma unroll
  for (int x = 0; x < N; ++x) {
    if constexpr (kChannels == 2) {
      const float2 v = *reinterpret_cast<const float2*>(from + 2 * x);
      u[2 * x] = v.x;
      u[2 * x + 1] = v.y;
    } else {
      u[x] = from[2 * x];
    }
  }
}

}  // namespace tunas::kernels
