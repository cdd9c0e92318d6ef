// What the two depthwise kernels share: how their work is cut. A block takes a run of tiles, each a
// rectangle of one image and up to 72 of its channels (128 where x is made from an expansion). It
// loads what the tile reads, with its halo, into shared memory (depthwise_load.cuh); then each
// thread computes patches of the tile from there, for one or two channels. Loading makes the values
// once, sixteen bytes at a time, so that the window's loop is all that is left to the patches.
#pragma once

#include "kernels/depthwise.h"
#include "kernels/reduce.cuh"

namespace tunas::kernels {

inline constexpr int kTilePack = 8, kTileThreads = 128, kTileBlocks = 1056;
inline constexpr std::size_t kTileMemory = 227 * 1024;  // shared memory of an SM of an H100

/// Outputs that a thread computes at once. The first of `n` outputs in a row reads `window` inputs,
/// every further one `stride` more.
struct Patch {
  int rows, columns, channels;
  int window, stride;
  int taps;    // of the filter: k*k
  int work;    // instructions an output
  int blocks;  // that an SM of an H100 should hold

  __host__ __device__ constexpr int reads(int n) const { return (n - 1) * stride + window; }
};

/// For __launch_bounds__: an SM of an A100 has 164 KB of shared memory where an H100's has 228.
constexpr int resident(int blocks) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  return blocks * 164 / 228;
#else
  return blocks;
#endif
}

/// The part of a cut that serves an expansion (depthwise_expand.cuh).
struct Expanded {
  static constexpr int kDepth = 16;  // channels of its source that are multiplied at once

  int in = 0;       // channels of its source; 0: there is no expansion
  int element = 0;  // bytes of one
  int cell = 0;  // rows and columns of x of an output, kept raw in shared memory; 0: they are not
  int rows = 0, columns = 0;  // kept, of a tile
  int pair = 0, row = 0;      // elements there, to the next pair of channels, to the next row

  __host__ __device__ int depth() const { return (in + kDepth - 1) / kDepth * kDepth; }
  /// Elements from a channel's weights to the next one's: four channels meet in different banks.
  __host__ __device__ int pitch() const { return depth() | kDepth; }
  __host__ __device__ int raw_bytes() const { return (rows * row * element + 15) / 16 * 16; }
  /// Of the weights and of the constants of the source and of `channels` of x.
  __host__ __device__ int weight_bytes(int channels) const { return channels * pitch() * element; }
  __host__ __device__ int bytes(int channels) const {
    if (!in) return 0;
    return raw_bytes() + weight_bytes(channels) + (depth() + channels) * 8;
  }
};

/// [n][height][width][c] cut into tiles.
struct Tiling {
  int packs, lanes, slots;           // of a block: eight channels; threads side by side; their rows
  int groups, chunks;                // grid.x, grid.y
  int patches_down, patches_across;  // of a tile
  int tiles_down, tiles_across, tiles;  // of an image; of all images
  int run;                              // tiles of a block
  int rows, columns;                    // of a tile in shared memory
  int pair_floats, row_floats;          // there, to the next pair of channels, to the next row
  int down_step, across_step;           // of a thread: to its next patch
  int pixel_step;                       // and to its next pixel while it loads
  Expanded expanded;

  __host__ __device__ int channels() const { return packs * kTilePack; }  // of a block
  __host__ __device__ int bytes() const { return rows * row_floats * 4; }
  __host__ __device__ int tap_bytes(const Patch& patch) const {
    return channels() * patch.taps * 4;
  }
  Shape shape(const Patch& patch) const {
    // At its end a block sums kBatch floats of every thread in the same memory.
    const int used = bytes() + tap_bytes(patch) + expanded.bytes(channels());
    const int sums = lanes * slots * kBatch * 4;
    return {dim3(groups, chunks), dim3(lanes * slots),
            static_cast<std::size_t>(used > sums ? used : sums)};
  }
};

/// Calls f(integral_constant k, integral_constant stride). Throws Error(usage) on other sizes.
template <class F>
void with_window(int k, int stride, const F& f) {
  const auto with_stride = [&](auto kk) {
    if (stride == 1) {
      f(kk, std::integral_constant<int, 1>{});
    } else {
      f(kk, std::integral_constant<int, 2>{});
    }
  };
  require(stride == 1 || stride == 2, "depthwise stride ", stride, "; it takes 1 or 2");
  require(k == 3 || k == 5 || k == 7, "depthwise kernel size ", k, "; it takes 3, 5 or 7");
  if (k == 3) with_stride(std::integral_constant<int, 3>{});
  if (k == 5) with_stride(std::integral_constant<int, 5>{});
  if (k == 7) with_stride(std::integral_constant<int, 7>{});
}

/// Calls f(bool_constant): whether x is made by an expansion.
template <class F>
void with_expansion(const Expansion& expansion, const F& f) {
  if (expansion.w) {
    f(std::true_type{});
  } else {
    f(std::false_type{});
  }
}

}  // namespace tunas::kernels
