// SourceGrad (source.h) as one thread writes it, for its N channels:
//
//   dz = da*act'(scale*y + shift);  s1 = sum dz;  s2 = sum dz*(y - mean), which is S2/inv_std
//
// Both sums are of the rows that the thread was given; whoever calls adds them up (reduce.cuh).
#pragma once

#include "kernels/source.cuh"

namespace tunas::kernels {

/// Receives da (or du) of one pixel after another: writes dz = da*act'(z), keeps S1 and S2/inv_std.
template <class T, int N>
struct GradWriter {
  T* dz;
  bool add;
  float mean[N], s1[N], s2[N];

  __device__ GradWriter(const SourceGrad& grad, int c)
      : dz(static_cast<T*>(grad.dz.data)), add(grad.how == Write::accumulate) {
    load_channels(grad.mean, c, 0.0f, mean);
#pragma unroll
    for (int i = 0; i < N; ++i) s1[i] = s2[i] = 0;
  }
  /// y: the raw value; d: da, becomes dz.
  __device__ void put(long offset, const Reader<N>& reader, const float (&y)[N], float (&d)[N]) {
    sum_da(reader, y, d);
    write(offset, d);
  }
  /// The same without a place for dz.
  __device__ void sum_da(const Reader<N>& reader, const float (&y)[N], float (&d)[N]) {
    float z[N];
#pragma unroll
    for (int i = 0; i < N; ++i) z[i] = y[i];
    reader.normalise(z);
    activate_backward(reader.act, z, d);
    sum(y, d);
  }
  /// The sums are those of this call; where dz accumulates so do they, each writer adding its
  /// share.
  __device__ void sum(const float* y, const float* d) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      s1[i] += d[i];
      s2[i] += d[i] * (y[i] - mean[i]);
    }
  }
  __device__ void write(long offset, float* d) {
    if (add) {
      float before[N];
      load(dz + offset, before);
#pragma unroll
      for (int i = 0; i < N; ++i) d[i] += before[i];
    }
    store_part<T, N>(dz + offset, d);
  }
};

}  // namespace tunas::kernels
