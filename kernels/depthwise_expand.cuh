// How a block makes the pixels of a tile that are not stored (Expansion of source.h): a warp takes
// sixteen of them after the other, u of their few channels in registers, and multiplies them with
// the weights of eight of the block's channels after the other, which lie in shared memory: bf16 on
// tensor cores, float by plain multiply-adds in the order of k.
//
// Of sixteen pixels lane l holds l/4 and l/4 + 8: of u the channels 16*s + 4*(l%4) and the three
// behind it, of a product those of the channels 2*(l%4) and the next one. mma numbers the values of
// k otherwise, but the same for both operands; so a lane loads neighbours.
#pragma once

#include "kernels/depthwise_load.cuh"
#include "kernels/ptx.cuh"

namespace tunas::kernels {

/// u of one lane's two pixels: 16 channels a step.
template <class T>
struct ExpandedPixels {
  static constexpr int kSteps = 3;  // held at once

  Raw<T, 4> raw[kSteps][2];  // as they lie in memory, then u

  /// `from`: of the two pixels, the lane's first channel.
  __device__ void fetch(const T* const (&from)[2], int channels) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        raw[s][i] = {};
        if (s * Expanded::kDepth < channels) {
          raw[s][i] = load_raw<T, 4>(from[i] + s * Expanded::kDepth);
        }
      }
    }
  }
  /// `scale`, `shift`: of the lane's first channel.
  __device__ void make(Act act, const float* scale, const float* shift, int channels) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s * Expanded::kDepth >= channels) break;
      float by[4], plus[4], u[8];
      load(scale + s * Expanded::kDepth, by);
      load(shift + s * Expanded::kDepth, plus);
      unpack_row<4>(raw[s], u);
#pragma unroll
      for (int i = 0; i < 8; ++i) u[i] = by[i % 4] * u[i] + plus[i % 4];
      activate(act, u);
      store_part<T, 4>(reinterpret_cast<T*>(&raw[s][0]), u);
      store_part<T, 4>(reinterpret_cast<T*>(&raw[s][1]), u + 4);
    }
  }
};

/// sum += step s of u times the weights of eight channels from `w` on, `pitch` apart.
__device__ inline void multiply_step(const uint2 (&u)[2], const bf16* w, int pitch,
                                     float (&sum)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned rows[4] = {u[0].x, u[1].x, u[0].y, u[1].y};
  const uint2 columns = load_raw<bf16, 4>(w + lane / 4 * pitch + lane % 4 * 4);
  multiply_add(sum, rows, columns.x, columns.y);
}
__device__ inline void multiply_step(const uint4 (&u)[2], const float* w, int pitch,
                                     float (&sum)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float own[8];
  unpack_row<4>(u, own);
#pragma unroll 1
  for (int from = 0; from < 4; ++from) {  // the lanes that hold these pixels
    float w0[4], w1[4];
    load(w + lane % 4 * 2 * pitch + from * 4, w0);
    load(w + (lane % 4 * 2 + 1) * pitch + from * 4, w1);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float u0 = __shfl_sync(0xffffffffu, own[i], lane / 4 * 4 + from);
      const float u1 = __shfl_sync(0xffffffffu, own[4 + i], lane / 4 * 4 + from);
      sum[0] += u0 * w0[i];
      sum[1] += u0 * w1[i];
      sum[2] += u1 * w0[i];
      sum[3] += u1 * w1[i];
    }
  }
}

/// Where made values go: activated floats in the tile of the forward pass ...
struct ActivatedTile {
  float* tile;
  int row, pair;       // to the next row, to the next pair of channels
  const float* norms;  // [pair][4]: two scales, two shifts
  Act act;

  /// Of two channels of two pixels.
  __device__ void value(int which, float (&v)[4]) const {
    float norm[4];
    load(norms + which * 4, norm);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = norm[i % 2] * v[i] + norm[2 + i % 2];
    activate(act, v);
  }
  __device__ void store(int at, const float* v) const { store_part<float, 2>(tile + at, v); }
};

/// ... or as they are, of the type of x, which backward reads in its place.
template <class T>
struct RawTile {
  T* tile;
  int row, pair;

  __device__ void value(int, float (&)[4]) const {}
  __device__ void store(int at, const float* v) const { store_part<T, 2>(tile + at, v); }
};

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

/// Makes tiles of u of a depthwise convolution from an expansion, as TileLoader loads them.
template <class T>
struct ExpandedLoader {
  const Source& x;
  Expander<T> expander;
  float* norms;
  TileBorder border;

  __device__ ExpandedLoader(const Source& source, const Expansion& a, const Tiling& t, char* memory)
      : x(source), expander(a, t, source.y.c, memory), border(t) {
    norms = expander.shift + expander.depth;
    const int c0 = static_cast<int>(blockIdx.x) * t.channels();
    for (int pair = static_cast<int>(threadIdx.x); pair < expander.packs * kTilePack / 2;
         pair += static_cast<int>(blockDim.x)) {
      const Reader<2> reader(x, c0 + pair * 2);
      const float norm[4] = {reader.scale[0], reader.scale[1], reader.shift[0], reader.shift[1]};
      store(norms + pair * 4, norm);
    }
  }
  __device__ void load(const Tiling& t, int image, int top, int left, float* tile) {
    const TileRect now = inside_image(t.rows, t.columns, top, left, x.y.h, x.y.w);
    border.clear(t, now, tile);
    expander.make_tile(image, top, left, now,
                       ActivatedTile{tile, t.row_floats, t.pair_floats, norms, x.act});
  }
};

/// Makes the raw pixels of an expansion that the cells of a tile hold; nothing where there is none.
template <class T, bool kExpanded>
struct RawTiles {
  const Tensor& x;
  Expander<T> expander;
  T* tile;

  __device__ RawTiles(const Expansion& a, const Tiling& t, const Tensor& shape, char* memory)
      : x(shape), expander(a, t, shape.c, memory), tile(reinterpret_cast<T*>(memory)) {}
  __device__ void make(const Tiling& t, int image, int top, int left) const {
    const Expanded& e = t.expanded;
    expander.make_tile(image, top, left, inside_image(e.rows, e.columns, top, left, x.h, x.w),
                       RawTile<T>{tile, e.row, e.pair});
  }
};
template <class T>
struct RawTiles<T, false> {
  static constexpr T* tile = nullptr;

  __device__ RawTiles(const Expansion&, const Tiling&, const Tensor&, char*) {}
  __device__ void make(const Tiling&, int, int, int) const {}
};

}  // namespace tunas::kernels
