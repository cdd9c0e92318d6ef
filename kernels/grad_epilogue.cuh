// The epilogue of dgrad: turns a finished tile of du into the gradient of the source (source.h).
//
//   ungated   dz = (du + addend)*act'(z); S1, S2 of a block's rows
//   gated     da = du*gate; of every image dgate and, where they are wanted, the two slope sums
//
// Chunks of a gated source do not cross images (row_chunks.cuh). A block leaves the sums of an
// image after each of its chunks, those of the whole at its end.
#pragma once

#include "kernels/gemm.cuh"
#include "kernels/grad_partials.cuh"
#include "kernels/grad_writer.cuh"

namespace tunas::kernels::cuda {

/// A thread has four channels: what it keeps of them lies beside accumulators and loads in flight.
inline constexpr int kGradPack = 4;
template <int kColumns, int kRows = kGemmRows, int kThreads = kGemmThreads>
using FinishedGrad = FinishedTile<kColumns, kRows, kThreads, kGradPack>;

template <class T, class Tile>
struct GradEpilogue {
  const Source& x;
  const SourceGrad& dx;
  const GradSums& to;
  int first, channel;  // of the block, of the thread
  bool idle;
  GradWriter<T, kGradPack> writer;
  float gate[kGradPack] = {};  // sums of du*a

  __device__ GradEpilogue(const Source& source, const SourceGrad& grad, const GradSums& sums,
                          int first_channel)
      : x(source),
        dx(grad),
        to(sums),
        first(first_channel),
        channel(first + Tile::lane() * kGradPack),
        idle(channel >= x.y.c),
        writer(grad, idle ? 0 : channel) {}

  /// `raw`: the source of the tile's first row, this block's channels, in rows of `stride`.
  __device__ void put(const RowTile& rows, const float* tile, const T* raw, int stride) {
    if (idle) return;
    load_channels(dx.mean, channel, 0.0f, writer.mean);  // anew: no register keeps it meanwhile
    const Reader<kGradPack> reader(x, channel);
    float factor[kGradPack];
    const int image = x.gate ? rows.row / (x.y.h * x.y.w) : 0;
    load_channels(x.gate, image * x.y.c + channel, 1.0f, factor);
#pragma unroll 1
    for (int r = Tile::slot(); r < Tile::kRows && rows.row + r < rows.end; r += Tile::kSlots) {
      const long at = static_cast<long>(rows.row + r) * x.y.c + channel;
      float du[kGradPack], y[kGradPack];
      Tile::read(tile, r, du);
      load(raw + static_cast<long>(r) * stride + Tile::lane() * kGradPack, y);
      if (x.gate) {
        put_gated(at, reader, factor, y, du);
      } else {
        take_addend<T, kGradPack>(dx.addend, at, du);
        writer.put(at, reader, y, du);
      }
    }
  }
  __device__ void put_gated(long at, const Reader<kGradPack>& reader,
                            const float (&factor)[kGradPack], const float (&y)[kGradPack],
                            float (&d)[kGradPack]) {
    float z[kGradPack], a[kGradPack];
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) z[i] = y[i];
    reader.normalise(z);
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) a[i] = z[i];
    activate(reader.act, a);
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) {
      gate[i] += d[i] * a[i];
      d[i] *= factor[i];
    }
    store(writer.dz + at, d);
    activate_backward(reader.act, z, d);
    writer.sum(y, d);
  }

  /// After a chunk; all threads must call it.
  __device__ void leave_image(const RowChunks& chunks, int chunk, float* buffer) {
    if (!x.gate) return;
    const int parts = chunks.parts(), image = chunk / parts;
    const long at = (chunk - image * parts) * to.stride + static_cast<long>(image) * x.y.c;
    leave(gate, to.dgate + at, buffer);
    if (to.slopes) {
      leave(writer.s1, to.slopes + at, buffer);
      leave(writer.s2, to.slopes + at + static_cast<long>(x.y.n) * x.y.c, buffer);
    }
    __syncthreads();
  }
  /// At the end; all threads must call it.
  __device__ void leave_whole(float* buffer) {
    if (!to.whole) return;
    float* at = to.whole + static_cast<long>(blockIdx.y) * 2 * x.y.c;
    leave(writer.s1, at, buffer);
    leave(writer.s2, at + x.y.c, buffer);
  }
  __device__ void leave(float (&sums)[kGradPack], float* at, float* buffer) const {
    const int c = x.y.c, begin = first;
    sum_slots(sums, buffer, Tile::kLanes, Tile::kSlots, [=](int i, int lane, float sum) {
      if (begin + lane * kGradPack + i < c) at[begin + lane * kGradPack + i] = sum;
    });
#pragma unroll
    for (float& sum : sums) sum = 0;
  }
};

}  // namespace tunas::kernels::cuda
