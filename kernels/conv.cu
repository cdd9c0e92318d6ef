// Dense convolution of the stem (conv.h), without im2col.
//
// Forward: a thread computes four neighbouring pixels times eight output channels; the filter lies
// in shared memory as floats [tap][4][out], image pixels (8 bytes of bf16) come through the
// first-level cache. Backward: a thread owns one tap (four input channels) times eight output
// channels and visits the pixels of its slot; dy is made on load. Partials [chunk][out*k*k*4].
#include "kernels/conv.h"

#include "kernels/library.h"
#include "kernels/moments.cuh"
#include "kernels/source.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kThreads = 256, kPack = 8, kColumns = 4, kBlocks = 1056;

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_kernel(ConvForward a, Cut cut, int items, float* partial) {
  auto* filter = dynamic_shared<float>();
  __shared__ float buffer[kBatch * kThreads];
  const int k = a.w.k, c = a.y.c, taps = k * k * 4, width = a.image.w;
  for (int e = static_cast<int>(threadIdx.x); e < taps * c; e += cut.threads()) {
    float v[1];
    load(static_cast<const T*>(a.w.data) + static_cast<long>(e % c) * taps + e / c, v);
    filter[e] = v[0];
  }
  __syncthreads();
  const int slot = static_cast<int>(threadIdx.x) / cut.lanes;
  const int lane = static_cast<int>(threadIdx.x) - slot * cut.lanes;
  const int channel = (static_cast<int>(blockIdx.x) * cut.lanes + lane) * kPack;
  const int across = (a.y.w + kColumns - 1) / kColumns;
  PivotSums<kPack> spread;
  for (int item = static_cast<int>(blockIdx.y) * cut.slots + slot; item < items && channel < c;
       item += static_cast<int>(gridDim.y) * cut.slots) {
    const int row = item / across, q0 = (item - row * across) * kColumns;
    const int n = row / a.y.h, p = row - n * a.y.h;
    const int valid = a.y.w - q0 < kColumns ? a.y.w - q0 : kColumns;
    const T* image = static_cast<const T*>(a.image.data) +
                     ((static_cast<long>(n) * a.image.h + p * a.stride + a.top) * width +
                      q0 * a.stride + a.left) *
                         4;
    float acc[kColumns][kPack] = {};
    for (int i = 0; i < k; ++i) {
      for (int j = 0; j < k; ++j) {
        float u[kColumns][4];
#pragma unroll
        for (int q = 0; q < kColumns; ++q) {  // beyond the row: any pixel, its sum is dropped
          const int at = q < valid ? q * a.stride : 0;
          load(image + (i * width + at + j) * 4, u[q]);
        }
#pragma unroll
        for (int ch = 0; ch < 4; ++ch) {
          float w[kPack];
          load(filter + ((i * k + j) * 4 + ch) * c + channel, w);
#pragma unroll
          for (int q = 0; q < kColumns; ++q) {
#pragma unroll
            for (int o = 0; o < kPack; ++o) acc[q][o] += u[q][ch] * w[o];
          }
        }
      }
    }
    T* to = static_cast<T*>(a.y.data) + (static_cast<long>(row) * a.y.w + q0) * c + channel;
    spread.start(acc[0]);
    spread.count += valid;
#pragma unroll
    for (int q = 0; q < kColumns; ++q) {
      if (q >= valid) continue;
      store(to + static_cast<long>(q) * c, acc[q]);
      spread.put(acc[q]);
    }
  }
  if (!partial) return;
  write_moments(spread, buffer, cut.lanes, cut.slots,
                static_cast<int>(blockIdx.x) * cut.lanes * kPack, c,
                partial + static_cast<long>(blockIdx.y) * kMomentRows * c);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_backward_kernel(ConvBackward a, Cut cut, float* partial) {
  __shared__ float buffer[kBatch * kThreads];
  const Tensor& dz = a.dy.dz;
  const int k = a.w.k, c = dz.c, packs = c / kPack;
  const int slot = static_cast<int>(threadIdx.x) / cut.lanes;
  const int lane = static_cast<int>(threadIdx.x) - slot * cut.lanes;
  const int owner = static_cast<int>(blockIdx.x) * cut.lanes + lane;
  const bool idle = owner >= k * k * packs;
  const int tap = idle ? 0 : owner / packs, channel = idle ? 0 : owner % packs * kPack;
  const int i = tap / k, j = tap - i * k, rows = dz.n * dz.h;
  const IncomingReader<kPack> reader(a.dy, channel);
  float dw[kPack * 4] = {};
  for (int row = static_cast<int>(blockIdx.y); row < rows && !idle;
       row += static_cast<int>(gridDim.y)) {
    const int n = row / dz.h, p = row - n * dz.h;
    const T* image =
        static_cast<const T*>(a.image.data) +
        ((static_cast<long>(n) * a.image.h + p * a.stride + a.top + i) * a.image.w + a.left + j) *
            4;
    const long at = static_cast<long>(row) * dz.w * c + channel;
#pragma unroll 2
    for (int q = slot; q < dz.w; q += cut.slots) {
      float u[4], d[kPack], y[kPack] = {};
      load(image + static_cast<long>(q) * a.stride * 4, u);
      load(static_cast<const T*>(dz.data) + at + static_cast<long>(q) * c, d);
      if (a.dy.ca) load(static_cast<const T*>(a.dy.y.data) + at + static_cast<long>(q) * c, y);
#pragma unroll
      for (int o = 0; o < kPack; ++o) {
        const float dy = reader.value(o, d[o], y[o]);
#pragma unroll
        for (int ch = 0; ch < 4; ++ch) dw[o * 4 + ch] += dy * u[ch];
      }
    }
  }
  const int taps = k * k;
  float* out = partial + static_cast<long>(blockIdx.y) * c * taps * 4;
  sum_slots(dw, buffer, cut.lanes, cut.slots, [&](int v, int l, float sum) {
    const int who = static_cast<int>(blockIdx.x) * cut.lanes + l;
    if (who >= taps * packs) return;
    const int o = who % packs * kPack + v / 4;
    out[(o * taps + who / packs) * 4 + v % 4] = sum;
  });
}

}  // namespace

void conv(CudaContext& context, const ConvForward& args) {
  const Tensor& y = args.y;
  require(args.w.type == args.image.type && y.type == args.image.type,
          "conv on CUDA takes image, weights and output of one type");
  if (library::conv(context, args)) return;
  const Cut cut = cut_channels(y.c, kPack, kThreads);
  const int items = y.n * y.h * ceil_div(y.w, kColumns);
  const int chunks = cut.chunks(items, kBlocks);
  float* partial = args.moments.mean
                       ? scratch(context, static_cast<std::size_t>(chunks) * kMomentRows * y.c)
                       : nullptr;
  const std::size_t filter = sizeof(float) * args.w.k * args.w.k * 4 * y.c;
  with_type(y.type, [&](auto t) {
    launch(context, "conv", conv_kernel<decltype(t)>,
           {dim3(cut.groups, chunks), dim3(cut.threads()), filter}, args, cut, items, partial);
  });
  if (partial) merge_moments(context, partial, chunks, y.c, args.moments);
}

void conv_backward(CudaContext& context, const ConvBackward& args) {
  if (library::conv_backward(context, args)) return;
  const Tensor& dz = args.dy.dz;
  const int taps = args.w.k * args.w.k;
  const Cut cut = cut_channels(taps * dz.c / kPack, 1, kThreads);
  const int rows = dz.n * dz.h;
  const int chunks = ceil_div(rows, ceil_div(rows, kBlocks / 2));
  const long stride = static_cast<long>(dz.c) * taps * 4;
  float* partial = scratch(context, chunks * stride);
  with_type(dz.type, [&](auto t) {
    launch(context, "conv backward", conv_backward_kernel<decltype(t)>,
           {dim3(cut.groups, chunks), dim3(cut.threads())}, args, cut, partial);
  });
  OrderedSum dw{partial, chunks, stride, dz.c, taps * 4, taps * 4, args.dw.f32()};
  if (args.decay != 0) {
    dw.w = args.w.data;
    dw.w_type = args.w.type;
    dw.decay = args.decay;
  }
  OrderedSums sums;
  sums.add(dw);
  add_in_order(context, sums);
}

}  // namespace tunas::kernels::cuda
