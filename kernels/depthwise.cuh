// What the two depthwise kernels share: how their work is cut. A block takes a run of tiles, each a
// rectangle of one image and up to 72 of its channels. It loads what the tile reads, with its halo,
// into shared memory (depthwise_load.cuh); then each thread computes patches of the tile from
// there, for one or two channels. Loading makes the values once, sixteen bytes at a time, so that
// the window's loop is all that is left to the patches.
#pragma once

#include <cmath>

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

  __host__ __device__ int bytes() const { return rows * row_floats * 4; }
  Shape shape(const Patch& patch) const {
    // At its end a block sums kBatch floats of every thread in the same memory.
    const int used = bytes() + packs * kTilePack * patch.taps * 4;
    const int sums = lanes * slots * kBatch * 4;
    return {dim3(groups, chunks), dim3(lanes * slots),
            static_cast<std::size_t>(used > sums ? used : sums)};
  }
};

/// The cost of a cut in instructions a channel: those of the outputs, 8 a loaded value and 250 a
/// thread and tile; halo, idle threads and split sectors included. With fewer than 12 warps
/// on an SM more and more of its cycles pass idle.
inline double tile_cost(const Tiling& t, const Patch& patch) {
  const int threads = t.lanes * t.slots, warps = ceil_div(threads, 32);
  const int rounds = ceil_div(t.patches_down * t.patches_across, t.slots);
  const double filled = warps * 32.0 / threads;
  const double computed = rounds * t.slots * patch.rows * patch.columns * double(patch.work);
  // The channels of a block begin and end within a sector of 32 bytes where packs are odd.
  const double sectors = t.groups > 1 ? 1 + (t.packs % 2 ? 0.5 : 0.25) / t.packs : 1;
  const double loaded = t.rows * t.columns * 8 * sectors;
  const double fixed = 250.0 * threads / (t.packs * kTilePack);
  const auto by_memory = static_cast<double>(kTileMemory / (t.shape(patch).shared + 1024));
  const double by_registers = patch.blocks * kTileThreads / (warps * 32.0);
  const double live = threads / 32.0 * (by_memory < by_registers ? by_memory : by_registers);
  return ((computed + fixed) * filled + loaded) * t.tiles * t.groups * t.packs *
         (live < 12 ? std::sqrt(12 / live) : 1);
}

/// The cheapest cut of [n][height][width][c]. Depends on the shape only.
inline Tiling cut_tiles(int n, int height, int width, int c, const Patch& patch) {
  Tiling best{};
  double least = 0;
  const int packs = ceil_div(c, kTilePack);
  const int down = ceil_div(height, patch.rows), across = ceil_div(width, patch.columns);
  const auto consider = [&](int p, int a, int b, int rounds) {
    Tiling t{};
    t.packs = p;
    t.lanes = p * kTilePack / patch.channels;
    t.groups = ceil_div(packs, p);
    t.patches_down = a;
    t.patches_across = b;
    t.rows = patch.reads(a * patch.rows);
    t.columns = patch.reads(b * patch.columns);
    t.pair_floats = 2 * (t.columns | 1);  // odd: lanes meet in different banks
    t.row_floats = p * kTilePack / 2 * t.pair_floats;
    t.slots = ceil_div(a * b, rounds);
    t.down_step = t.slots / b;
    t.across_step = t.slots % b;
    t.pixel_step = t.lanes * t.slots / p;
    t.tiles_down = ceil_div(down, a);
    t.tiles_across = ceil_div(across, b);
    t.tiles = n * t.tiles_down * t.tiles_across;
    if (t.shape(patch).shared > kTileMemory / patch.blocks - 1024 && a * b > 1) return;
    const double cost = tile_cost(t, patch);
    if (least > 0 && cost >= least) return;
    least = cost;
    best = t;
  };
  for (int p = packs < 3 ? packs : 3; p <= packs && p <= 9; ++p) {
    const int slots = kTileThreads * patch.channels / (p * kTilePack);  // at most
    for (int b = 1; b <= across && b <= 4; ++b) {
      for (int tiles = 1, last = 0; tiles <= down && last != 1; ++tiles) {
        const int a = ceil_div(down, tiles), rounds = ceil_div(a * b, slots);
        if (a == last || a > 16) continue;
        last = a;
        consider(p, a, b, rounds);
        if (2 * rounds <= a * b) consider(p, a, b, 2 * rounds);
      }
    }
  }
  const int limit = kTileBlocks / best.groups > 1 ? kTileBlocks / best.groups : 1;
  best.run = ceil_div(best.tiles, limit);
  best.chunks = ceil_div(best.tiles, best.run);
  return best;
}

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

}  // namespace tunas::kernels
