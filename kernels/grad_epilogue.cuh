// The epilogue of dgrad: turns a finished tile of du into the gradient of the source (source.h).
//
//   ungated   dz = (du + addend)*act'(z); S1, S2 of a block's rows
//   gated     da = du*gate; of every image dgate and, where they are wanted, the two slope sums
//
// Chunks of a gated source do not cross images (row_chunks.cuh). A block leaves the sums of an
// image after each of its chunks, those of the whole at its end. Between tiles they lie in shared
// memory, each thread's its own: no register holds them while the next tile is multiplied.
#pragma once

#include "kernels/gemm.cuh"
#include "kernels/grad_partials.cuh"
#include "kernels/grad_writer.cuh"

namespace tunas::kernels::cuda {

/// A thread has four channels: their constants lie beside accumulators and loads in flight.
inline constexpr int kGradPack = 4;
template <int kColumns, int kRows = kGemmRows, int kThreads = kGemmThreads>
using FinishedGrad = FinishedTile<float, kColumns, kRows, kThreads, kGradPack>;

template <class T, class Tile>
struct GradEpilogue {
  enum Sum { kS1, kS2, kGate, kSums };  // the last of du*a
  static constexpr int kBytes = kSums * Tile::kThreadCount * kGradPack * 4;

  const Source& x;
  const SourceGrad& dx;
  const GradSums& to;
  Tile own;
  int channel;
  float4* kept;  // [kSums][thread]

  __device__ GradEpilogue(const Source& source, const SourceGrad& grad, const GradSums& sums,
                          int first_channel, void* shared)
      : x(source),
        dx(grad),
        to(sums),
        own(source.y.c - first_channel),
        channel(first_channel + own.lane * kGradPack),
        kept(static_cast<float4*>(shared)) {
    for (int i = 0; i < kSums; ++i) keep(i, {0, 0, 0, 0});
  }
  __device__ void keep(int which, const float (&v)[kGradPack]) const {
    store(reinterpret_cast<float*>(kept + which * Tile::kThreadCount + threadIdx.x), v);
  }
  __device__ void recall(int which, float (&v)[kGradPack]) const {
    load(reinterpret_cast<const float*>(kept + which * Tile::kThreadCount + threadIdx.x), v);
  }

  /// `raw`: the source of the tile's first row, this block's channels, in rows of `stride`.
  __device__ void put(const RowTile& rows, const float* tile, const T* raw, int stride) const {
    GradWriter<T, kGradPack> writer(dx, channel);
    recall(kS1, writer.s1);
    recall(kS2, writer.s2);
    const Reader<kGradPack> reader(x, channel);
    const int left = rows.end - rows.row, count = left < Tile::kRows ? left : Tile::kRows;
    float factor[kGradPack], gate[kGradPack];
    if (x.gate) {
      const int image = rows.row / (x.y.h * x.y.w);
      load(x.gate + static_cast<long>(image) * x.y.c + channel, factor);
      recall(kGate, gate);
    }
#pragma unroll 1
    for (int r = own.first_row(); r < count; r += own.slots) {
      float du[kGradPack], y[kGradPack], z[kGradPack];
      own.read(tile, r, du);
      load(raw + static_cast<long>(r) * stride + own.lane * kGradPack, y);
#pragma unroll
      for (int i = 0; i < kGradPack; ++i) z[i] = y[i];
      reader.normalise(z);
      const long at = static_cast<long>(rows.row + r) * x.y.c + channel;
      if (x.gate) {
        pass_gate(reader.act, z, factor, du, gate);
        store(writer.dz + at, du);
      } else {
        take_addend<T, kGradPack>(dx.addend, at, du);
      }
      activate_backward(reader.act, z, du);
      writer.sum(y, du);
      if (!x.gate) writer.write(at, du);
    }
    keep(kS1, writer.s1);
    keep(kS2, writer.s2);
    if (x.gate) keep(kGate, gate);
  }
  /// d: du, becomes da = du*gate.
  __device__ static void pass_gate(Act act, const float (&z)[kGradPack],
                                   const float (&factor)[kGradPack], float (&d)[kGradPack],
                                   float (&gate)[kGradPack]) {
    float a[kGradPack];
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) a[i] = z[i];
    activate(act, a);
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) {
      gate[i] += d[i] * a[i];
      d[i] *= factor[i];
    }
  }

  /// After a chunk; all threads must call it.
  __device__ void leave_image(const RowChunks& chunks, int chunk, float* buffer) const {
    if (!x.gate) return;
    const int parts = chunks.parts(), image = chunk / parts;
    const long at = (chunk - image * parts) * to.stride + static_cast<long>(image) * x.y.c;
    leave(kGate, to.dgate + at, buffer);
    if (to.slopes) {
      leave(kS1, to.slopes + at, buffer);
      leave(kS2, to.slopes + at + static_cast<long>(x.y.n) * x.y.c, buffer);
    }
    __syncthreads();
  }
  /// At the end; all threads must call it.
  __device__ void leave_whole(float* buffer) const {
    if (!to.whole) return;
    float* at = to.whole + static_cast<long>(blockIdx.y) * 2 * x.y.c;
    leave(kS1, at, buffer);
    leave(kS2, at + x.y.c, buffer);
  }
  __device__ void leave(Sum which, float* at, float* buffer) const {
    float sums[kGradPack];
    recall(which, sums);
    const int begin = channel - own.lane * kGradPack;
    sum_slots(sums, buffer, own.lanes, own.slots,
              [=](int i, int lane, float sum) { at[begin + lane * kGradPack + i] = sum; });
    keep(which, {0, 0, 0, 0});
  }
};

}  // namespace tunas::kernels::cuda
