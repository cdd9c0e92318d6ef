// The kernels of specimens.h, compiled as the real ones are.
#include "tests/emulation/specimens.h"

#include "kernels/pack.cuh"

namespace tunas::emulation {
namespace {

using kernels::dynamic_shared;
using kernels::launch;
using kernels::Shape;

__device__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ int block() { return static_cast<int>(blockIdx.x); }

__global__ void reverse_kernel(Is is, float* out) {
  __shared__ float s[kThreads];
  s[thread()] = static_cast<float>(thread());
  if (is == Is::sound) __syncthreads();
  out[thread()] = s[kThreads - 1 - thread()];
}

__global__ void reverse_in_place_kernel(Is is, float* out) {
  __shared__ float s[kThreads];
  s[thread()] = static_cast<float>(thread());
  __syncthreads();
  const float other = s[kThreads - 1 - thread()];
  if (is == Is::sound) __syncthreads();
  s[thread()] = other;
  __syncthreads();
  out[thread()] = s[thread()];
}

__global__ void count_kernel(Is is, float* out) {
  __shared__ int counter;
  if (is == Is::broken || threadIdx.x == 0) counter = kThreads;
  __syncthreads();
  out[thread()] = static_cast<float>(counter);
}

__global__ void half_written_kernel(Is is, float* out) {
  __shared__ float s[kThreads];
  if (is == Is::sound || thread() < kThreads / 2) s[thread()] = 1;
  __syncthreads();
  out[thread()] = s[kThreads - 1 - thread()];
}

__global__ void dynamic_kernel(Is is, float* out) {
  float* s = dynamic_shared<float>() + (is == Is::broken ? 1 : 0);
  s[thread()] = static_cast<float>(thread());
  out[thread()] = s[thread()];
}

__global__ void barrier_in_branch_kernel(Is is, float* out) {
  if (is == Is::sound || thread() < kThreads / 2) __syncthreads();
  out[thread()] = 1;
}

__global__ void warp_sum_kernel(Is is, float* out) {
  float sum = 1;
  if (is == Is::sound || thread() % 2 == 0) {
    for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
  }
  out[thread()] = sum;
}

__global__ void leftovers_kernel(Is is, float* out) {
  __shared__ float s[kThreads];
  if (is == Is::sound || block() == 0) s[thread()] = 1;
  out[block() * kThreads + thread()] = s[thread()];
}

__global__ void block_sums_kernel(Is is, float* out) {
  if (threadIdx.x == 0) out[is == Is::sound ? block() : 0] = kThreads;
}

__global__ void neighbours_kernel(Is is, float* out) {
  const int at = block() * kThreads + thread();
  const float before = out[is == Is::sound ? at : (at + kThreads) % (kBlocks * kThreads)];
  out[at] = before + 1;
}

__global__ void fill_kernel(float value, int count, float* out) {
  const int at = block() * kThreads + thread();
  if (at < count) out[at] = value;
}

__global__ void empty_kernel() {}

__global__ void copy_kernel(const float* in, int step, int offset, float* out) {
  const int at = block() * kThreads + thread();
  out[at] = in[step * at + offset];
}

__global__ void copy_wide_kernel(const float* in, float* out) {
  const int at = block() * kThreads + thread();
  const uint4 word = kernels::load_raw<float, 4>(in + 4 * at);
  reinterpret_cast<uint4*>(out)[at] = word;
}

__global__ void read_again_kernel(const float* in, float* out) {
  float sum = 0;
  for (int i = 0; i < 2; ++i) sum += in[(thread() + i) % kThreads];
  out[block() * kThreads + thread()] = sum;
}

__global__ void transpose_kernel(int pitch, float* out) {
  auto* s = dynamic_shared<float>();
  for (int row = 0; row < 32; ++row) s[row * pitch + thread()] = static_cast<float>(row);
  __syncthreads();
  float sum = 0;
  for (int column = 0; column < 32; ++column) sum += s[thread() * pitch + column];
  out[thread()] = sum;
}

__global__ void wide_shared_kernel(float* out) {
  auto* s = dynamic_shared<float>();
  const float v[4] = {1, 2, 3, 4};
  kernels::store(s + 4 * thread(), v);
  __syncthreads();
  float back[4];
  kernels::load(s + 4 * (31 - thread()), back);
  out[thread()] = back[0] + back[3];
}

const Shape kOneBlock{dim3(1), dim3(kThreads)}, kSeveral{dim3(kBlocks), dim3(kThreads)};

}  // namespace

void reverse(CudaContext& context, Is is, float* out) {
  launch(context, "reverse", reverse_kernel, kOneBlock, is, out);
}
void reverse_in_place(CudaContext& context, Is is, float* out) {
  launch(context, "reverse in place", reverse_in_place_kernel, kOneBlock, is, out);
}
void count(CudaContext& context, Is is, float* out) {
  launch(context, "count", count_kernel, kOneBlock, is, out);
}
void half_written(CudaContext& context, Is is, float* out) {
  launch(context, "half written", half_written_kernel, kOneBlock, is, out);
}
void dynamic(CudaContext& context, Is is, float* out) {
  launch(context, "dynamic", dynamic_kernel, {dim3(1), dim3(kThreads), 4 * kThreads}, is, out);
}
void barrier_in_branch(CudaContext& context, Is is, float* out) {
  launch(context, "barrier in branch", barrier_in_branch_kernel, kOneBlock, is, out);
}
void warp_sum(CudaContext& context, Is is, float* out) {
  launch(context, "warp sum", warp_sum_kernel, kOneBlock, is, out);
}
void leftovers(CudaContext& context, Is is, float* out) {
  launch(context, "leftovers", leftovers_kernel, kSeveral, is, out);
}
void block_sums(CudaContext& context, Is is, float* out) {
  launch(context, "block sums", block_sums_kernel, kSeveral, is, out);
}
void neighbours(CudaContext& context, Is is, float* out) {
  launch(context, "neighbours", neighbours_kernel, kSeveral, is, out);
}
void fill(CudaContext& context, float value, int count, float* out) {
  launch(context, "fill", fill_kernel, {dim3(kernels::ceil_div(count, kThreads)), dim3(kThreads)},
         value, count, out);
}
void launch_of(CudaContext& context, int threads, int blocks, std::size_t shared) {
  launch(context, "launch", empty_kernel, {dim3(blocks), dim3(threads), shared});
}
void copy(CudaContext& context, const float* in, int step, int offset, float* out) {
  launch(context, "copy", copy_kernel, kSeveral, in, step, offset, out);
}
void copy_wide(CudaContext& context, const float* in, float* out) {
  launch(context, "copy wide", copy_wide_kernel, kSeveral, in, out);
}
void read_again(CudaContext& context, const float* in, float* out) {
  launch(context, "read again", read_again_kernel, kSeveral, in, out);
}
void transpose(CudaContext& context, int pitch, float* out) {
  launch(context, "transpose", transpose_kernel,
         {dim3(1), dim3(32), sizeof(float) * static_cast<std::size_t>(32 * pitch)}, pitch, out);
}
void wide_shared(CudaContext& context, float* out) {
  launch(context, "wide shared", wide_shared_kernel, {dim3(1), dim3(32), 512}, out);
}

}  // namespace tunas::emulation
