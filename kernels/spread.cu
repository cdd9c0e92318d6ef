// Spread (spread.h) in one launch: a block holds 16 channels times slices of the images; a slice
// takes its images one by one, then the slices are joined in order.
#include "kernels/spread.h"

#include "kernels/pack.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kChannels = 16, kSlices = 32;

template <class T>
__global__ void __launch_bounds__(kChannels* kSlices) spread_kernel(Spread a, float per_pixel) {
  constexpr int kDeep = 4;
  __shared__ float slices[2][kSlices + 1][kChannels];  // both sums in different banks
  const int lane = static_cast<int>(threadIdx.x) % kChannels;
  const int slice = static_cast<int>(threadIdx.x) / kChannels;
  const int c = a.dy.c, channel = static_cast<int>(blockIdx.x) * kChannels + lane;
  const long size = static_cast<long>(a.dy.n) * c;
  const int begin = a.dy.n * slice / kSlices, end = a.dy.n * (slice + 1) / kSlices;
  float s1 = 0, s2 = 0;
  for (int first = begin; first < end && channel < c; first += kDeep) {
    float d[kDeep][1], q[kDeep][2], p[kDeep][2];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {  // all loads before the first store
      if (first + k >= end) break;
      const long at = static_cast<long>(first + k) * c + channel;
      load(static_cast<const T*>(a.dy.data) + at, d[k]);
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        q[k][s] = a.slopes[s * size + at];
        p[k][s] = a.gated ? a.gated[s * size + at] : 0;
      }
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (first + k >= end) break;
      const float share = d[k][0] * per_pixel;
      a.spread[static_cast<long>(first + k) * c + channel] = share;
      s1 += share * q[k][0] + p[k][0];
      s2 += share * q[k][1] + p[k][1];
    }
  }
  slices[0][slice][lane] = s1;
  slices[1][slice][lane] = s2;
  __syncthreads();
  if (slice >= 2 || channel >= c) return;
  float sum = 0;
  for (int k = 0; k < kSlices; ++k) sum += slices[slice][k][lane];
  if (slice == 0) a.sum_dz[channel] = sum;
  if (slice == 1) a.sum_dz_xhat[channel] = a.inv_std[channel] * sum;
}

}  // namespace

void spread(CudaContext& context, const Spread& args) {
  require(args.dy.data && args.dy.h == 1 && args.dy.w == 1,
          "spread: dy must be the gradient of a mean over images, [n][1][1][c]");
  require(args.pixels > 0, "spread: an image of ", args.pixels, " pixels has no mean");
  require(args.slopes && args.inv_std, "spread: pass the slope sums and inv_std of the pool's x");
  require(args.spread && args.sum_dz && args.sum_dz_xhat,
          "spread: pass memory for spread and both sums");
  with_type(args.dy.type, [&](auto t) {
    launch(context, "spread", spread_kernel<decltype(t)>,
           {dim3(ceil_div(args.dy.c, kChannels)), dim3(kChannels * kSlices)}, args,
           1.0f / static_cast<float>(args.pixels));
  });
}

}  // namespace tunas::kernels::cuda
