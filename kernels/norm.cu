// Batch normalisation, the per-channel part (norm.h): one thread a channel.
#include "kernels/norm.h"

#include "kernels/reduce.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) norm_kernel(NormForward a) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= a.c) return;
  const float mean = a.mean[i], variance = a.variance[i];
  const float inv_std = 1.0f / sqrtf(variance + a.epsilon);
  const float scale = a.gamma[i] * inv_std;
  const float shift = a.beta[i] - mean * scale;
  const bool finite = isfinite(mean) && isfinite(variance) && isfinite(scale) && isfinite(shift);
  if (!finite && a.origin) atomicMin(a.origin, a.position);
  a.inv_std[i] = inv_std;
  a.scale[i] = finite ? scale : NAN;
  a.shift[i] = shift;
  if (!a.running_mean) return;
  const float rows = static_cast<float>(a.rows);
  const float unbiased = a.rows > 1 ? variance * (rows / (rows - 1)) : variance;
  a.running_mean[i] -= (1 - a.momentum) * (a.running_mean[i] - mean);
  a.running_variance[i] -= (1 - a.momentum) * (a.running_variance[i] - unbiased);
}

__global__ void __launch_bounds__(kThreads) norm_backward_kernel(NormBackward a) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= a.c) return;
  const float per_row = 1.0f / static_cast<float>(a.rows);
  const float s1 = a.sum_dz[i], s2 = a.sum_dz_xhat[i];
  const float scale = a.scale[i], inv_std = a.inv_std[i];
  const float cb = -scale * inv_std * s2 * per_row;
  a.ca[i] = scale;
  a.cb[i] = cb;
  a.cc[i] = -scale * s1 * per_row - cb * a.mean[i];
  a.dgamma[i] += s2;
  a.dbeta[i] += s1;
}

}  // namespace

void norm(CudaContext& context, const NormForward& args) {
  launch(context, "norm", norm_kernel, {dim3(ceil_div(args.c, kThreads)), dim3(kThreads)}, args);
}

void norm_backward(CudaContext& context, const NormBackward& args) {
  launch(context, "norm backward", norm_backward_kernel,
         {dim3(ceil_div(args.c, kThreads)), dim3(kThreads)}, args);
}

}  // namespace tunas::kernels::cuda
