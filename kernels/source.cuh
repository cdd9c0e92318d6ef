// Source and Incoming (source.h) as one thread reads them: the constants of its N channels in
// registers, applied to packs on the way in.
//
//   z = scale*y + shift;  u = act(z);  dy = ca*dz + cb*y + cc,  dz = (weight*da + spread)*act'(z)
#pragma once

#include "kernels/activation.cuh"
#include "kernels/pack.cuh"
#include "kernels/source.h"

namespace tunas::kernels {

/// v[i] = from[c + i], or `absent` where from is null: loaded together, c being a multiple of N.
template <int N>
__device__ inline void load_channels(const float* from, int c, float absent, float (&v)[N]) {
  if constexpr (N > 1) {
    if (from) return load(from + c, v);
  }
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] = from ? from[c + i] : absent;
}

/// v <- 0 for the packs whose bit of `inside` is not set; a uniform branch skips the usual case.
template <int N, int kSize>
__device__ inline void clear_outside(unsigned inside, float (&v)[kSize]) {
  if (inside == (1u << kSize / N) - 1) return;
#pragma unroll
  for (int i = 0; i < kSize; ++i) v[i] = inside >> i / N & 1 ? v[i] : 0.0f;
}

/// z = scale*y + shift and a = act(z) for channels c .. c+N.
template <int N>
struct Reader {
  float scale[N], shift[N];
  Act act;

  __device__ Reader(const Source& x, int c) : act(x.act) {
    load_channels(x.scale, c, 1.0f, scale);
    load_channels(x.shift, c, 0.0f, shift);
  }
  /// Of one pixel or of several, flat.
  template <int kSize>
  __device__ void normalise(float (&v)[kSize]) const {
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] = scale[i % N] * v[i] + shift[i % N];
  }
  __device__ void value(float (&v)[N]) const {
    normalise(v);
    activate(act, v);
  }
  /// z of a row of packs, flat.
  template <class Word, int kPacks>
  __device__ void normalise_row(const Word (&raw)[kPacks], float (&z)[kPacks * N]) const {
    unpack_row<N>(raw, z);
    normalise(z);
  }
  /// u of a row of packs; zero where the bit of `inside` is not set.
  template <class Word, int kPacks>
  __device__ void row(const Word (&raw)[kPacks], unsigned inside, float (&u)[kPacks * N]) const {
    normalise_row(raw, u);
    activate(act, u);
    clear_outside<N>(inside, u);
  }
};

/// dy = ca*dz + cb*y + cc for channels c .. c+N.
template <int N>
struct IncomingReader {
  float ca[N], cb[N], cc[N];

  __device__ IncomingReader(const Incoming& dy, int c) {
    load_channels(dy.ca, c, 1.0f, ca);
    load_channels(dy.cb, c, 0.0f, cb);
    load_channels(dy.cc, c, 0.0f, cc);
  }
  __device__ float value(int i, float dz, float y) const {
    return ca[i] * dz + (cb[i] * y + cc[i]);
  }
};

/// Whether dy needs the raw output.
__device__ inline bool reads_y(const Incoming& dy) { return dy.ca || dy.deferred.scale; }

/// d: da, becomes dz = (weight*da + spread)*act'(z) for channels c .. c+N of an image, `width` a
/// row of spread; y: raw. The constants are read where they are needed, four channels at a time:
/// who calls this holds others.
template <int N>
__device__ inline void undefer(const Deferred& a, int image, int width, int c, const float (&y)[N],
                               float (&d)[N]) {
  if (!a.scale) return;
  const float* spread = a.spread ? a.spread + static_cast<long>(image) * width : nullptr;
  constexpr int kAtOnce = N < 4 ? N : 4;
#pragma unroll
  for (int i = 0; i < N; i += kAtOnce) {
    float scale[kAtOnce], shift[kAtOnce], more[kAtOnce], z[kAtOnce], v[kAtOnce];
    load_channels(a.scale, c + i, 1.0f, scale);
    load_channels(a.shift, c + i, 0.0f, shift);
    load_channels(spread, c + i, 0.0f, more);
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) {
      z[e] = scale[e] * y[i + e] + shift[e];
      v[e] = a.weight * d[i + e] + more[e];
    }
    activate_backward(a.act, z, v);
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) d[i + e] = v[e];
  }
}

/// d <- d + weight*da of N channels at `at`: what another reader left to this one.
template <class T, int N>
__device__ inline void take_addend(const Addend& left, long at, float* d) {
  if (!left.da.data) return;
  float da[N];
  load(static_cast<const T*>(left.da.data) + at, da);
#pragma unroll
  for (int i = 0; i < N; ++i) d[i] += left.weight * da[i];
}

}  // namespace tunas::kernels
