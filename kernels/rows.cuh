// Maps over the rows of a packed [rows][c] tensor: a thread owns eight channels and visits every
// slots-th row of its block's chunk, several rows in flight. The gradient side (grad_kernel) turns
// a loaded value into da, writes dz and leaves the two sums of source.h.
#pragma once

#include "kernels/check.h"
#include "kernels/grad_writer.cuh"
#include "kernels/reduce.cuh"

namespace tunas::kernels {

inline constexpr int kRowThreads = 256, kRowPack = 8, kRowBlocks = 1056;

/// Chunks of rows: every image (or the tensor as one) is cut into `parts`.
struct RowCut {
  Cut cut;
  int images, parts;
  long image_rows;
  int c;

  int chunks() const { return images * parts; }
  Shape shape() const { return {dim3(cut.groups, images * parts), dim3(cut.threads())}; }
};

inline RowCut cut_rows(long rows, int c, int images = 1) {
  const Cut cut = cut_channels(c, kRowPack, kRowThreads);
  const long image_rows = rows / images;
  const int parts = cut.chunks((image_rows + 3) / 4, ceil_div(kRowBlocks, images));
  return {cut, images, parts, image_rows, c};
}

/// One thread's part of a chunk.
struct RowSpan {
  int lane, slot, channel, image;
  long begin, end;

  __device__ explicit RowSpan(const RowCut& rows) {
    const int t = static_cast<int>(threadIdx.x), chunk = static_cast<int>(blockIdx.y);
    slot = t / rows.cut.lanes;
    lane = t - slot * rows.cut.lanes;
    channel = (static_cast<int>(blockIdx.x) * rows.cut.lanes + lane) * kRowPack;
    image = chunk / rows.parts;
    const long part = chunk - image * rows.parts, first = image * rows.image_rows;
    begin = first + rows.image_rows * part / rows.parts;
    end = first + rows.image_rows * (part + 1) / rows.parts;
    if (channel >= rows.c) end = begin;  // an idle lane still meets the barriers
  }
};

/// A block's sums of its channels: out[c] of what its slots hold. All threads must call it.
__device__ inline void leave_sums(const float (&v)[kRowPack], float* buffer, const RowCut& rows,
                                  float* out) {
  const int first = static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack;
  sum_slots(v, buffer, rows.cut.lanes, rows.cut.slots, [&](int i, int lane, float sum) {
    const int at = first + lane * kRowPack + i;
    if (at < rows.c) out[at] = sum;
  });
}

template <class T, bool kReadsY, class Body>
__global__ void __launch_bounds__(kRowThreads)
    grad_kernel(Body body, const T* from, Source x, SourceGrad dx, RowCut rows, float* partial) {
  constexpr int kDeep = 4;
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0;
  const Reader<kRowPack> reader(x, channel);
  GradWriter<T, kRowPack> writer(dx, channel);
  body.start(span.image, c, channel);
  const T* y = static_cast<const T*>(x.y.data);
  const int slots = rows.cut.slots;
  for (long row = span.begin + span.slot; row < span.end; row += kDeep * slots) {
    Raw<T, kRowPack> raw_d[kDeep], raw_y[kDeep];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      const long at = (row + k * slots) * c + channel;
      raw_d[k] = {};
      if (row + k * slots < span.end) {
        if (from) raw_d[k] = load_raw<T, kRowPack>(from + at);
        if constexpr (kReadsY) raw_y[k] = load_raw<T, kRowPack>(y + at);
      }
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (row + k * slots >= span.end) break;
      const long at = (row + k * slots) * c + channel;
      float d[kRowPack], v[kRowPack] = {};
      unpack<T>(raw_d[k], d);
      body.value(at, d);
      if constexpr (kReadsY) {
        unpack<T>(raw_y[k], v);
        writer.put(at, reader, v, d);
      } else {
        writer.write(at, d);
      }
    }
  }
  if (!partial) return;
  float* out = partial + static_cast<long>(blockIdx.y) * 2 * c;
  leave_sums(writer.s1, buffer, rows, out);
  leave_sums(writer.s2, buffer, rows, out + c);
}

/// dx of source.h from `body`, which makes da of what it finds in `from` (null: zeros).
template <class T, class Body>
void write_grad(const CudaContext& context, const char* name, const Body& body, const T* from,
                const Source& x, const SourceGrad& dx, const RowCut& rows) {
  if (!dx.dz) return;
  refuse_addend(name, dx);
  float* partial =
      dx.mean ? scratch(context, static_cast<std::size_t>(rows.chunks()) * 2 * rows.c) : nullptr;
  const bool reads_y = x.act != Act::none || partial;
  launch(context, name, reads_y ? grad_kernel<T, true, Body> : grad_kernel<T, false, Body>,
         rows.shape(), body, from, x, dx, rows, partial);
  OrderedSums sums;
  add_source_sums(sums, dx, partial, rows.chunks(), 2L * rows.c, rows.c);
  add_in_order(context, sums);
}

}  // namespace tunas::kernels
