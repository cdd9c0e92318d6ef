// Global average pooling (pool.h): forward one block an image and channel group; backward a map.
#include "kernels/pool.h"

#include "kernels/rows.cuh"

namespace tunas::kernels::cuda {
namespace {

/// The sums of slopes are those of a gradient of 1; without kSlopes they are not looked at.
template <class T, bool kSlopes>
__global__ void __launch_bounds__(kRowThreads) pool_kernel(PoolForward a, RowCut rows) {
  constexpr int kDeep = 4;
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0, slots = rows.cut.slots;
  const Reader<kRowPack> reader(a.x, channel);
  SourceGrad ones;
  ones.mean = a.mean;
  GradWriter<T, kRowPack> slopes(ones, channel);
  const T* from = static_cast<const T*>(a.x.y.data) + channel;
  float sum[kRowPack] = {};
  for (long row = span.begin + span.slot; row < span.end; row += kDeep * slots) {
    Raw<T, kRowPack> raw[kDeep];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (row + k * slots < span.end) raw[k] = load_raw<T, kRowPack>(from + (row + k * slots) * c);
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (row + k * slots >= span.end) break;
      float v[kRowPack];
      unpack<T>(raw[k], v);
      if constexpr (kSlopes) {
        float d[kRowPack] = {1, 1, 1, 1, 1, 1, 1, 1};
        slopes.sum_da(reader, v, d);
      }
      reader.value(v);
#pragma unroll
      for (int i = 0; i < kRowPack; ++i) sum[i] += v[i];
    }
  }
  const float per_pixel = 1.0f / static_cast<float>(rows.image_rows);
  const int first = static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack;
  const long image = static_cast<long>(span.image) * c;
  T* out = static_cast<T*>(a.y.data) + image;
  sum_slots(sum, buffer, rows.cut.lanes, slots, [&](int i, int lane, float total) {
    const float mean[1] = {total * per_pixel};
    if (first + lane * kRowPack + i < c) store(out + first + lane * kRowPack + i, mean);
  });
  if constexpr (kSlopes) {
    leave_sums(slopes.s1, buffer, rows, a.slope_sums + image);
    leave_sums(slopes.s2, buffer, rows, a.slope_sums + static_cast<long>(rows.images) * c + image);
  }
}

template <class T>
struct PoolBody {
  const T* dy;
  float per_pixel;
  float d_mean[kRowPack];

  __device__ void start(int image, int c, int channel) {
    load(dy + static_cast<long>(image) * c + channel, d_mean);
#pragma unroll
    for (float& v : d_mean) v *= per_pixel;
  }
  __device__ void value(long, float (&d)[kRowPack]) const {
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) d[i] += d_mean[i];
  }
};

}  // namespace

void pool(CudaContext& context, const PoolForward& args) {
  require(args.mean || !args.slope_sums, "pool: slope sums need the mean of the normalisation");
  const Tensor& x = args.x.y;
  RowCut rows = cut_rows(x.rows(), x.c, x.n);
  rows.parts = 1;  // a mean has no second pass
  with_type(x.type, [&](auto t) {
    using T = decltype(t);
    launch(context, "pool", args.slope_sums ? pool_kernel<T, true> : pool_kernel<T, false>,
           rows.shape(), args, rows);
  });
}

void pool_backward(CudaContext& context, const PoolBackward& args) {
  const Tensor& x = args.x.y;
  with_type(x.type, [&](auto t) {
    using T = decltype(t);
    SourceGrad dx = args.dx;
    if (args.partial.data && args.partial.data == dx.dz.data) dx.how = Write::overwrite;
    const PoolBody<T> body{
        static_cast<const T*>(args.dy.data), 1.0f / static_cast<float>(x.h * x.w), {}};
    write_grad(context, "pool backward", body, static_cast<const T*>(args.partial.data), args.x, dx,
               cut_rows(x.rows(), x.c, x.n));
  });
}

}  // namespace tunas::kernels::cuda
