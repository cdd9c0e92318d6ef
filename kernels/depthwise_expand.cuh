// How a block makes pixels that are not stored (Expansion of source.h): a warp takes sixteen of
// them after the other, u of their few channels in registers (depthwise_pixels.cuh), and multiplies
// them with the weights of eight of the block's channels after the other, which lie in shared
// memory.
#pragma once

#include "kernels/depthwise_make.cuh"
#include "kernels/depthwise_pixels.cuh"

namespace tunas::kernels {

/// The block's part of an expansion: weights and constants in shared memory, loaded once.
template <class T>
struct Expander {
  static constexpr int kHeld = ExpandedPixels<T>::kSteps * Expanded::kDepth;
  const Source& x;
  int pitch, depth, packs;
  T* weights;    // [channel of the block][pitch], zero behind those of the source
  float* scale;  // [depth], of the source
  float* shift;
  int quad = static_cast<int>(threadIdx.x) % 4;  // a lane's place among those of its pixels

  /// `memory`: Expanded::bytes, those of the raw tile first. The caller synchronises.
  __device__ Expander(const Expansion& a, const Tiling& t, int c, char* memory)
      : x(a.x), pitch(t.expanded.pitch()), depth(t.expanded.depth()) {
    const int c0 = static_cast<int>(blockIdx.x) * t.channels();
    packs = ((c - c0 < t.channels() ? c - c0 : t.channels()) + kTilePack - 1) / kTilePack;
    weights = reinterpret_cast<T*>(memory + t.expanded.raw_bytes());
    scale = reinterpret_cast<float*>(weights + t.channels() * pitch);
    shift = scale + depth;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int across = depth / kTilePack;
    for (int i = thread; i < packs * kTilePack * across; i += threads) {
      const int row = i / across, k = (i - row * across) * kTilePack;
      Raw<T, kTilePack> w{};
      if (k < x.y.c) {
        const long line = static_cast<long>(c0 + row) * a.w.in.max;
        w = load_raw<T, kTilePack>(static_cast<const T*>(a.w.data) + line + k);
      }
      *reinterpret_cast<Raw<T, kTilePack>*>(weights + row * pitch + k) = w;
    }
    for (int i = thread; i < depth; i += threads) {
      scale[i] = i >= x.y.c ? 0.0f : x.scale ? x.scale[i] : 1.0f;
      shift[i] = i < x.y.c && x.scale ? x.shift[i] : 0.0f;
    }
  }

  /// Two pixels of a lane: where their channels begin, and their place in the tile.
  struct Pixels {
    const T* from[2];
    int row[2], column[2];
    bool inside[2];
  };

  /// `first`: of sixteen pixels of `rect`, row by row. Beyond its end stands its first pixel.
  __device__ Pixels locate(const T* image, int top, int left, const TileRect& rect,
                           int first) const {
    const int across = rect.right - rect.left, count = (rect.bottom - rect.top) * across;
    Pixels p;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int index = first + static_cast<int>(threadIdx.x) % 32 / 4 + i * 8;
      p.inside[i] = index < count;
      const int down = p.inside[i] ? quotient(index, across) : 0;
      p.row[i] = rect.top + down;
      p.column[i] = rect.left + (p.inside[i] ? index - down * across : 0);
      p.from[i] = image + ((top + p.row[i]) * x.y.w + left + p.column[i]) * x.y.c + quad * 4;
    }
    return p;
  }

  __device__ void fetch(const Pixels& p, int k, ExpandedPixels<T>& u) const {
    const T* from[2] = {p.from[0] + k, p.from[1] + k};
    u.fetch(from, x.y.c - k - quad * 4);
  }
  __device__ void make(int k, ExpandedPixels<T>& u) const {
    u.make(x.act, scale + k + quad * 4, shift + k + quad * 4, depth - k);
  }
  /// sum += channels k .. k + kHeld of u times the weights of two packs.
  __device__ void multiply(const ExpandedPixels<T>& u, int k, const int (&pack)[2],
                           float (&sum)[2][4]) const {
#pragma unroll
    for (int s = 0; s < ExpandedPixels<T>::kSteps; ++s, k += Expanded::kDepth) {
      if (k >= depth) break;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_step(u.raw[s], weights + pack[i] * kTilePack * pitch + k, pitch, sum[i]);
      }
    }
  }

  /// All channels of the block of sixteen pixels.
  template <class Put>
  __device__ void expand(const Pixels& p, const ExpandedPixels<T>& u, const Put& put) const {
    int at[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) at[i] = p.row[i] * put.row + p.column[i] * 2;
    for (int first = 0; first < packs; first += 2) {
      // Two products under way at once; the last pack of an odd number is made twice.
      const int pack[2] = {first, first + 1 < packs ? first + 1 : first};
      float v[2][4] = {};
      multiply(u, 0, pack, v);
      for (int k = kHeld; k < x.y.c; k += kHeld) {  // of a wide source the rest is read each time
        ExpandedPixels<T> more;
        fetch(p, k, more);
        make(k, more);
        multiply(more, k, pack, v);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int pair = pack[j] * (kTilePack / 2) + quad;
        put.value(pair, v[j]);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (p.inside[i]) put.store(at[i] + pair * put.pair, v[j] + 2 * i);
        }
      }
    }
  }

  /// Makes the pixels of `rect`, a part of the tile whose first row and column in the image are
  /// `top` and `left`. All threads call it.
  template <class Put>
  __device__ void make_tile(int image, int top, int left, const TileRect& rect,
                            const Put& put) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
    if (warp >= warps || rect.left >= rect.right) return;
    const int count = (rect.bottom - rect.top) * (rect.right - rect.left);
    const T* from = static_cast<const T*>(x.y.data) + first_of(x.y, image, 0);
    int first = warp * 16;
    if (first >= count) return;
    Pixels p = locate(from, top, left, rect, first);
    ExpandedPixels<T> next;
    fetch(p, 0, next);
    while (first < count) {
      const Pixels now = p;
      ExpandedPixels<T> u = next;
      first += warps * 16;
      if (first < count) {  // under the products of these
        p = locate(from, top, left, rect, first);
        fetch(p, 0, next);
      }
      make(0, u);
      expand(now, u, put);
    }
  }
};

}  // namespace tunas::kernels
