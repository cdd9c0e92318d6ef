// How a block brings tiles (depthwise_tile.cuh) to shared memory: sixteen bytes a load, values
// made of them once (depthwise_make.cuh), floats, zeros outside the image.
#pragma once

#include "kernels/depthwise_tile.cuh"

namespace tunas::kernels {

/// a / b for small positive integers.
__device__ inline int quotient(int a, int b) {
  return static_cast<int>(__fdividef(static_cast<float>(a) + 0.5f, static_cast<float>(b)));
}

/// Rows [top, bottom) and columns [left, right) of a tile.
struct TileRect {
  int top, bottom, left, right;

  __device__ bool covers(const TileRect& o) const {
    return top <= o.top && bottom >= o.bottom && left <= o.left && right >= o.right;
  }
};

/// What of rows x columns from (top, left) on lies inside an image of height x width.
__device__ inline TileRect inside_image(int rows, int columns, int top, int left, int height,
                                        int width) {
  return {top < 0 ? -top : 0, top + rows > height ? height - top : rows, left < 0 ? -left : 0,
          left + columns > width ? width - left : columns};
}

/// Keeps zero what of a tile lies outside the image.
struct TileBorder {
  TileRect used;  // by the tile before

  __device__ explicit TileBorder(const Tiling& t) : used{0, t.rows, 0, t.columns} {}

  /// Clears what will not be overwritten. `now`: the part of the tile inside the image. All threads
  /// call it.
  __device__ void clear(const Tiling& t, const TileRect& now, float* tile) {
    if (!now.covers(used)) {
      const int words = t.bytes() / 16;
      for (int i = static_cast<int>(threadIdx.x); i < words; i += static_cast<int>(blockDim.x)) {
        reinterpret_cast<uint4*>(tile)[i] = {};
      }
      __syncthreads();
    }
    used = now;
  }
};

/// Brings tiles of a [n][height][width][c] tensor to shared memory. A thread has a fixed pack of
/// channels and visits every step-th pixel of what lies inside the image; the rest of the tile is
/// cleared where the tile before had left values there. `Maker` fetches packs and makes the values.
template <class Maker>
struct TileLoader {
  static constexpr int kDeep = 4;  // loads in flight

  typename Maker::Args args;
  int height, width, c;
  TileBorder border;

  __device__ TileLoader(const typename Maker::Args& a, const Tiling& t, int h, int w, int channels)
      : args(a), height(h), width(w), c(channels), border(t) {}

  /// The tile whose first row and column in the tensor are `top` and `left`. All threads call it.
  __device__ void load(const Tiling& t, int image, int top, int left, float* tile) {
    const TileRect now = inside_image(t.rows, t.columns, top, left, height, width);
    border.clear(t, now, tile);
    const int across = now.right - now.left;
    const int pixel = quotient(static_cast<int>(threadIdx.x), t.packs);
    const int pack = static_cast<int>(threadIdx.x) - pixel * t.packs;
    const int channel = (static_cast<int>(blockIdx.x) * t.packs + pack) * kTilePack;
    if (channel >= c || across <= 0) return;
    const Maker maker(args, image, channel);  // its constants live no longer than the loading
    const int rows = now.bottom - now.top;
    const int first_row = quotient(pixel, across), first_column = pixel - first_row * across;
    const int row_step = quotient(t.pixel_step, across),
              column_step = t.pixel_step - row_step * across;
    // Offsets of the thread's pixels from its first pack of the image and of the tile.
    const int line = width * c, step_at = row_step * line + column_step * c;
    const int step_to = row_step * t.row_floats + column_step * 2;
    const int wrap_at = line - across * c, wrap_to = t.row_floats - across * 2;
    const int first = (top + now.top + first_row) * line + (left + now.left + first_column) * c;
    int at = first;
    int to = pack * kTilePack / 2 * t.pair_floats + (now.top + first_row) * t.row_floats +
             (now.left + first_column) * 2;
    int until_wrap = across - first_column;
    int more = (rows * across - pixel + t.pixel_step - 1) / t.pixel_step;
    for (; more > 0; more -= kDeep) {
      typename Maker::Word held[kDeep];
      int place[kDeep];
#pragma unroll
      for (int d = 0; d < kDeep; ++d) {
        held[d] = maker.fetch(d < more ? at : first);  // past the end: not stored
        place[d] = to;
        at += step_at;
        to += step_to;
        until_wrap -= column_step;
        if (until_wrap <= 0) {
          until_wrap += across;
          at += wrap_at;
          to += wrap_to;
        }
      }
#pragma unroll
      for (int d = 0; d < kDeep; ++d) {
        if (d >= more) break;
        float v[kTilePack];
        maker.value(held[d], v);
#pragma unroll
        for (int i = 0; i < kTilePack; i += 2) {
          *reinterpret_cast<float2*>(tile + place[d] + i / 2 * t.pair_floats) = {v[i], v[i + 1]};
        }
      }
    }
  }
};

}  // namespace tunas::kernels
