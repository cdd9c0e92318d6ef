// What tiles (depthwise_load.cuh) are made of: u of a source, or dy.
#pragma once

#include "kernels/depthwise_load.cuh"
#include "kernels/source.cuh"

namespace tunas::kernels {

__device__ inline long first_of(const Tensor& t, int image, int channel) {
  return static_cast<long>(image) * t.h * t.w * t.c + channel;
}

/// u of a source.
template <class T>
struct SourceMaker {
  using Args = Source;
  using Word = Raw<T, kTilePack>;
  const T* from;
  Reader<kTilePack> reader;

  __device__ SourceMaker(const Source& x, int image, int channel)
      : from(static_cast<const T*>(x.y.data) + first_of(x.y, image, channel)), reader(x, channel) {}
  __device__ Word fetch(int at) const { return load_raw<T, kTilePack>(from + at); }
  __device__ void value(const Word& held, float (&v)[kTilePack]) const {
    unpack<T>(held, v);
    reader.value(v);
  }
};

/// dy; of what is deferred (source.h), too.
template <class T>
struct IncomingMaker {
  using Args = Incoming;
  struct Word {
    Raw<T, kTilePack> dz, y;
  };
  const Incoming& dy;
  const T *dz, *y;  // where dy is dz, cb is 0 and y anything; an absent dz is null
  IncomingReader<kTilePack> reader;
  int image, channel;

  __device__ IncomingMaker(const Incoming& a, int n, int c0)
      : dy(a),
        dz(of(a.dz, n, c0)),
        y(a.ca || a.deferred.scale ? of(a.y, n, c0) : dz),
        reader(a, c0),
        image(n),
        channel(c0) {}
  __device__ const T* of(const Tensor& t, int n, int c0) const {
    return t.data ? static_cast<const T*>(t.data) + first_of(dy.dz, n, c0) : nullptr;
  }
  __device__ Word fetch(int at) const {
    Word held{{}, load_raw<T, kTilePack>(y + at)};
    if (dz) held.dz = load_raw<T, kTilePack>(dz + at);
    return held;
  }
  __device__ void value(const Word& held, float (&v)[kTilePack]) const {
    float raw[kTilePack];
    unpack<T>(held.dz, v);
    unpack<T>(held.y, raw);
    undefer(dy.deferred, image, dy.dz.c, channel, raw, v);
#pragma unroll
    for (int i = 0; i < kTilePack; ++i) v[i] = reader.value(i, v[i], raw[i]);
  }
};

}  // namespace tunas::kernels
