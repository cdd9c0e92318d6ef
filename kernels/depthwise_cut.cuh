// The choice of a cut (depthwise.cuh): all sizes of tiles are weighed by what a channel costs.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/depthwise.cuh"

namespace tunas::kernels {

/// Instructions a channel of a tile that bring it to shared memory.
inline double load_cost(const Tiling& t) {
  // The channels of a block begin and end within a sector of 32 bytes where packs are odd.
  const double sectors = t.groups > 1 ? 1 + (t.packs % 2 ? 0.5 : 0.25) / t.packs : 1;
  const Expanded& e = t.expanded;
  const double loaded = t.rows * t.columns * 8 * sectors;
  if (!e.in) return loaded;
  // A value that is made costs 5 and one for each product, every channel of its source 32, since
  // other blocks bring it again for their channels. Only whole warps multiply.
  const int threads = t.lanes * t.slots, multiplying = threads / 32 * 32;
  const double value = 5 + double(e.depth()) / Expanded::kDepth + 32.0 * e.in / t.channels();
  const double made = value * threads / multiplying;
  return e.cell ? loaded + e.rows * e.columns * made : t.rows * t.columns * made;
}

/// The cost of a cut in instructions a channel: those of the outputs, 8 a loaded value and 250 a
/// thread and tile; halo, idle threads and split sectors included. With fewer than 12 warps
/// on an SM more and more of its cycles pass idle.
inline double tile_cost(const Tiling& t, const Patch& patch) {
  const int threads = t.lanes * t.slots, warps = ceil_div(threads, 32);
  const int rounds = ceil_div(t.patches_down * t.patches_across, t.slots);
  const double filled = warps * 32.0 / threads;
  const double computed = rounds * t.slots * patch.rows * patch.columns * double(patch.work);
  const double fixed = 250.0 * threads / t.channels();
  const auto by_memory = static_cast<double>(kTileMemory / (t.shape(patch).shared + 1024));
  const double by_registers = patch.blocks * kTileThreads / (warps * 32.0);
  const double live = threads / 32.0 * (by_memory < by_registers ? by_memory : by_registers);
  return ((computed + fixed) * filled + load_cost(t)) * t.tiles * t.groups * t.packs *
         (live < 12 ? std::sqrt(12 / live) : 1);
}

/// What an expansion adds to work in which every output keeps cell x cell raw pixels.
inline Expanded expanded(const Expansion& a, int cell) {
  if (!a.w) return {};
  return {a.x.y.c, static_cast<int>(size_of(a.x.y.type)), cell};
}

/// What is cut: [n][height][width][c] outputs, in patches.
struct TiledWork {
  int n, height, width, c;
  Patch patch;
  Expanded expanded = {};  // without its tile

  int packs() const { return ceil_div(c, kTilePack); }
  int down() const { return ceil_div(height, patch.rows); }
  int across() const { return ceil_div(width, patch.columns); }

  /// The most packs of a block. An expansion pays for itself where a tile of its source serves many
  /// channels, and then with fewer blocks on an SM.
  int most_packs() const { return std::min(packs(), expanded.in ? kTileThreads / kTilePack : 9); }
  bool fits(const Tiling& t) const {
    const std::size_t used = t.shape(patch).shared;
    if (expanded.in) return used <= kTileMemory / 2 - 1024;
    return used <= kTileMemory / patch.blocks - 1024 || t.patches_down * t.patches_across == 1;
  }

  /// Tiles of a x b patches and p packs of channels, `rounds` patches a thread.
  Tiling cut(int p, int a, int b, int rounds) const {
    Tiling t{};
    t.packs = p;
    t.lanes = p * kTilePack / patch.channels;
    t.groups = ceil_div(packs(), p);
    t.patches_down = a;
    t.patches_across = b;
    t.rows = patch.reads(a * patch.rows);
    t.columns = patch.reads(b * patch.columns);
    t.pair_floats = 2 * (t.columns | 1);  // odd: lanes meet in different banks
    t.row_floats = p * kTilePack / 2 * t.pair_floats;
    t.slots = ceil_div(a * b, rounds);
    t.expanded = expanded;
    if (expanded.in) t.slots = std::max(t.slots, ceil_div(32, t.lanes));  // a warp to multiply
    if (const int cell = expanded.cell) {
      t.expanded.rows = a * patch.rows * cell;
      t.expanded.columns = b * patch.columns * cell;
      t.expanded.pair = 2 * (t.expanded.columns | 1);
      t.expanded.row = p * kTilePack / 2 * t.expanded.pair;
    }
    t.down_step = t.slots / b;
    t.across_step = t.slots % b;
    t.pixel_step = t.lanes * t.slots / p;
    t.tiles_down = ceil_div(down(), a);
    t.tiles_across = ceil_div(across(), b);
    t.tiles = n * t.tiles_down * t.tiles_across;
    return t;
  }
};

/// The cheapest cut. Depends on the shape only.
inline Tiling cut_tiles(const TiledWork& work) {
  Tiling best{};
  double least = 0;
  const int down = work.down(), across = work.across();
  const auto consider = [&](const Tiling& t) {
    if (!work.fits(t)) return;
    const double cost = tile_cost(t, work.patch);
    if (least > 0 && cost >= least) return;
    least = cost;
    best = t;
  };
  for (int p = std::min(work.packs(), 3); p <= work.most_packs(); ++p) {
    const int slots = kTileThreads * work.patch.channels / (p * kTilePack);  // at most
    for (int b = 1; b <= across && b <= 4; ++b) {
      for (int tiles = 1, last = 0; tiles <= down && last != 1; ++tiles) {
        const int a = ceil_div(down, tiles), rounds = ceil_div(a * b, slots);
        if (a == last || a > 16) continue;
        last = a;
        consider(work.cut(p, a, b, rounds));
        if (2 * rounds <= a * b) consider(work.cut(p, a, b, 2 * rounds));
      }
    }
  }
  const int limit = kTileBlocks / best.groups > 1 ? kTileBlocks / best.groups : 1;
  best.run = ceil_div(best.tiles, limit);
  best.chunks = ceil_div(best.tiles, best.run);
  return best;
}

}  // namespace tunas::kernels
