// The tiles that are made by an expansion (depthwise_expand.cuh): of u for the forward pass, of the
// raw pixels of x for backward.
#pragma once

#include "kernels/depthwise_expand.cuh"

namespace tunas::kernels {

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
