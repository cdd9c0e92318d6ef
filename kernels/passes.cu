#include "kernels/passes.h"

#include "kernels/mix.h"
#include "kernels/moments.cuh"
#include "kernels/rows.cuh"

namespace tunas::kernels {
namespace {

constexpr int kFilterThreads = 128;

/// u of what a row holds.
struct SourceBody {
  Source x;
  float scale[kRowPack], shift[kRowPack], gate[kRowPack];

  __device__ void start(int image, int c, int channel) {
    load_channels(x.scale, channel, 1.0f, scale);
    load_channels(x.shift, channel, 0.0f, shift);
    const long at = static_cast<long>(image) * c;
    load_channels(x.gate ? x.gate + at : nullptr, channel, 1.0f, gate);
  }
  __device__ void value(long, float (&v)[kRowPack]) const {
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) v[i] = scale[i] * v[i] + shift[i];
    activate(x.act, v);
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) v[i] *= gate[i];
  }
};

struct PlainBody {
  __device__ void start(int, int, int) {}
  __device__ void value(long, float (&)[kRowPack]) const {}
};

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    finish_kernel(T* y, const float* bias, int used, RowCut rows, float* partial) {
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0;
  const bool changes = bias || used < c;
  float b[kRowPack];
#pragma unroll
  for (int i = 0; i < kRowPack; ++i) b[i] = bias && channel + i < used ? bias[channel + i] : 0.0f;
  PivotSums<kRowPack> spread;
#pragma unroll 4
  for (long row = span.begin + span.slot; row < span.end; row += rows.cut.slots) {
    float v[kRowPack];
    load(y + row * c + channel, v);
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) v[i] = channel + i < used ? v[i] + b[i] : 0.0f;
    if (changes) store(y + row * c + channel, v);
    spread.start(v);
    spread.count += 1;
    spread.put(v);
  }
  if (!partial) return;
  write_moments(spread, buffer, rows.cut.lanes, rows.cut.slots,
                static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack, c,
                partial + static_cast<long>(blockIdx.y) * kMomentRows * c);
}

template <class T>
__global__ void __launch_bounds__(kFilterThreads)
    dense_kernel(const T* w, int taps, int c, int ld, T* dense) {
  const int e = static_cast<int>(blockIdx.x) * kFilterThreads + static_cast<int>(threadIdx.x);
  if (e >= taps * c) return;
  const int tap = e / c, channel = e - tap * c;
  dense[channel * taps + tap] = w[tap * ld + channel];
}

__device__ float value_at(const void* from, DType type, long at) {
  if (type == DType::bf16) return __bfloat162float(static_cast<const bf16*>(from)[at]);
  return static_cast<const float*>(from)[at];
}

__global__ void __launch_bounds__(kFilterThreads) add_filter_kernel(FilterSum s) {
  const long e = static_cast<long>(blockIdx.x) * kFilterThreads + threadIdx.x;
  if (e >= static_cast<long>(s.rows) * s.width) return;
  const int row = static_cast<int>(e / s.width), column = static_cast<int>(e - row * s.width);
  const long from = static_cast<long>(row) * s.row_step + static_cast<long>(column) * s.column_step;
  const long to = static_cast<long>(row) * s.ld + column;
  float sum = s.partial ? value_at(s.partial, s.type, from) : 0.0f;
  if (s.w) sum += s.decay * value_at(s.w, s.w_type, to);
  s.out[to] += sum;
}

__global__ void __launch_bounds__(kRowThreads)
    window_kernel(Images from, Images to, long size, int h, int w, int words) {
  const long e = static_cast<long>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (e >= size) return;
  const long pixel = e / words, row = pixel / w, n = row / h;
  const long word = e - pixel * words, x = pixel - row * w, y = row - n * h;
  const long source = ((n * from.h + y) * from.w + x) * words + word;
  static_cast<uint2*>(to.data)[((n * to.h + y) * to.w + x) * words + word] =
      static_cast<const uint2*>(from.data)[source];
}

}  // namespace

void write_source(const CudaContext& context, const Source& x, void* u) {
  with_type(x.y.type, [&](auto t) {
    SourceGrad out;
    out.dz = x.y;
    out.dz.data = u;
    write_grad(context, "write source", SourceBody{x, {}, {}, {}},
               static_cast<const decltype(t)*>(x.y.data), Source{}, out,
               cut_rows(x.y.rows(), x.y.c, x.gate ? x.y.n : 1));
  });
}

void write_incoming(const CudaContext& context, const Incoming& dy, void* out) {
  MixForward sum;
  sum.terms = 2;
  sum.weight[0] = sum.weight[1] = 1;
  sum.x[0] = {dy.dz, dy.ca, dy.cc};
  sum.x[1] = {dy.y, dy.cb, nullptr};
  sum.out = dy.dz;
  sum.out.data = out;
  CudaContext same = context;
  cuda::mix(same, sum);
}

void finish_output(const CudaContext& context, const Tensor& y, int used, const float* bias,
                   const Moments& moments) {
  if (!bias && used == y.c && !moments.mean) return;
  const RowCut rows = cut_rows(y.rows(), y.c);
  float* partial =
      moments.mean ? scratch(context, static_cast<std::size_t>(rows.chunks()) * kMomentRows * y.c)
                   : nullptr;
  with_type(y.type, [&](auto t) {
    using T = decltype(t);
    launch(context, "finish output", finish_kernel<T>, rows.shape(), static_cast<T*>(y.data), bias,
           used, rows, partial);
  });
  if (partial) merge_moments(context, partial, rows.chunks(), y.c, moments);
}

void finish_grad(const CudaContext& context, const void* du, const Source& x,
                 const SourceGrad& dx) {
  if (du == dx.dz.data && x.act == Act::none && !dx.mean) return;
  with_type(x.y.type, [&](auto t) {
    write_grad(context, "finish gradient", PlainBody{}, static_cast<const decltype(t)*>(du), x, dx,
               cut_rows(x.y.rows(), x.y.c));
  });
}

void dense_filter(const CudaContext& context, const Filter& w, void* dense) {
  const int taps = w.k * w.k, c = w.in.now;
  with_type(w.type, [&](auto t) {
    using T = decltype(t);
    launch(context, "dense filter", dense_kernel<T>,
           {dim3(ceil_div(taps * c, kFilterThreads)), dim3(kFilterThreads)},
           static_cast<const T*>(w.data), taps, c, w.in.max, static_cast<T*>(dense));
  });
}

void add_filter(const CudaContext& context, const FilterSum& sum) {
  const long size = static_cast<long>(sum.rows) * sum.width;
  if (size == 0) return;
  launch(context, "add filter", add_filter_kernel,
         {dim3(ceil_div(size, kFilterThreads)), dim3(kFilterThreads)}, sum);
}

void copy_window(const CudaContext& context, const Images& from, const Images& to, int n, int h,
                 int w, std::size_t pixel) {
  const int words = static_cast<int>(pixel / sizeof(uint2));
  const long size = static_cast<long>(n) * h * w * words;
  launch(context, "copy window", window_kernel,
         {dim3(ceil_div(size, kRowThreads)), dim3(kRowThreads)}, from, to, size, h, w, words);
}

void clear(const CudaContext& context, void* data, std::size_t bytes) {
  check(cudaMemsetAsync(data, 0, bytes, context.stream), "clear");
}

}  // namespace tunas::kernels
