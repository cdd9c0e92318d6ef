// The second half of every reduction: partial sums of chunks, added in chunk order.
//
// A block holds some outputs times many slices of the chunks; a slice takes its chunks one by one,
// then the slices are joined in order. Floor: the partials once.
#include "kernels/moments.cuh"

namespace tunas::kernels {
namespace {

constexpr int kOutputs = 32, kSlices = 16;
constexpr int kChannels = 8, kChannelSlices = 64;  // of moments: few outputs, so more slices

__device__ float weight_at(const OrderedSum& s, long at) {
  if (s.w_type == DType::bf16) return __bfloat162float(static_cast<const bf16*>(s.w)[at]);
  return static_cast<const float*>(s.w)[at];
}

__global__ void __launch_bounds__(kOutputs* kSlices) add_kernel(OrderedSums sums) {
  const OrderedSum s = sums.s[blockIdx.y];
  __shared__ float slices[kSlices][kOutputs];
  const int lane = threadIdx.x % kOutputs, slice = threadIdx.x / kOutputs;
  const long size = static_cast<long>(s.rows) * s.width;
  const long e = static_cast<long>(blockIdx.x) * kOutputs + lane;
  float sum = 0;
  if (e < size) {
    const int end = static_cast<int>(static_cast<long>(s.chunks) * (slice + 1) / kSlices);
#pragma unroll 16
    for (int k = static_cast<int>(static_cast<long>(s.chunks) * slice / kSlices); k < end; ++k) {
      sum += s.partial[k * s.stride + e];
    }
  }
  slices[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || e >= size) return;
  for (int k = 1; k < kSlices; ++k) sum += slices[k][lane];
  const int row = static_cast<int>(e / s.width), column = static_cast<int>(e - row * s.width);
  const long at = static_cast<long>(row) * s.ld + column;
  if (s.factor) sum *= s.factor[column];
  if (s.w) sum += s.decay * weight_at(s, at);
  s.out[at] = s.how == Write::accumulate ? s.out[at] + sum : sum;
}

__global__ void __launch_bounds__(kChannels* kChannelSlices)
    merge_kernel(const float* partial, int chunks, int c, Moments moments) {
  constexpr int kDeep = 4;
  __shared__ MeanM2 slices[kChannelSlices][kChannels];
  const int lane = static_cast<int>(threadIdx.x) % kChannels;
  const int slice = static_cast<int>(threadIdx.x) / kChannels;
  const int channel = static_cast<int>(blockIdx.x) * kChannels + lane;
  MeanM2 total{0, 0, 0};
  const int begin = static_cast<int>(static_cast<long>(chunks) * slice / kChannelSlices);
  const int end = static_cast<int>(static_cast<long>(chunks) * (slice + 1) / kChannelSlices);
  for (int first = begin; first < end && channel < c; first += kDeep) {
    float v[kDeep][kMomentRows];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {  // all loads before the first division
      const float* p = partial + static_cast<long>(first + k) * kMomentRows * c + channel;
      v[k][0] = v[k][1] = v[k][2] = v[k][3] = 0;
      if (first + k >= end) continue;
#pragma unroll
      for (int i = 0; i < kMomentRows; ++i) v[k][i] = p[i * c];
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) merge(total, mean_m2(v[k][0], v[k][1], v[k][2], v[k][3]));
  }
  slices[slice][lane] = total;
  for (int half = 1; half < kChannelSlices; half *= 2) {
    __syncthreads();
    if (slice % (2 * half) == 0) merge(slices[slice][lane], slices[slice + half][lane]);
  }
  if (slice != 0 || channel >= c) return;
  total = slices[0][lane];
  moments.mean[channel] = total.mean;
  moments.variance[channel] = total.m2 / total.count;
}

}  // namespace

void add_in_order(const CudaContext& context, const OrderedSums& sums) {
  long size = 0;
  for (int i = 0; i < sums.count; ++i) {
    const long outputs = static_cast<long>(sums.s[i].rows) * sums.s[i].width;
    if (outputs > size) size = outputs;
  }
  if (size == 0) return;
  launch(context, "ordered sum", add_kernel,
         {dim3(ceil_div(size, kOutputs), sums.count), dim3(kOutputs * kSlices)}, sums);
}

void add_source_sums(OrderedSums& sums, const SourceGrad& grad, const float* partial, int chunks,
                     long stride, int c) {
  if (!grad.mean) return;
  OrderedSum s{partial, chunks, stride, 1, c, c, grad.sum_dz, grad.how};
  sums.add(s);
  s.partial = partial + c;
  s.out = grad.sum_dz_xhat;
  s.factor = grad.inv_std;
  sums.add(s);
}

void merge_moments(const CudaContext& context, const float* partial, int chunks, int c,
                   const Moments& moments) {
  launch(context, "merge moments", merge_kernel,
         {dim3(ceil_div(c, kChannels)), dim3(kChannels * kChannelSlices)}, partial, chunks, c,
         moments);
}

}  // namespace tunas::kernels
