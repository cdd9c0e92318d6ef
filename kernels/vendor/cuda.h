// The CUDA runtime: checked calls, the one launch, scratch memory. Only .cu files include this.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/types.h"

namespace tunas {

/// Throws Error(memory) when the device is out of memory, Error(numeric) on any other failure.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const Exit code = status == cudaErrorMemoryAllocation ? Exit::memory : Exit::numeric;
  fail(code, what, ": ", cudaGetErrorString(status),
       status == cudaErrorMemoryAllocation ? "; use a smaller batch"
                                           : "; TUNAS_SYNC=1 names the kernel that failed");
}

namespace kernels {

using bf16 = __nv_bfloat16;

struct Shape {
  dim3 grid, block;
  std::size_t shared = 0;  // bytes, dynamic
};

/// The dynamic shared memory of a block.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(16) char shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
}

/// The one place that launches. Throws as check does.
template <class... Parameters, class... Args>
void launch(const CudaContext& context, const char* name, void (*kernel)(Parameters...),
            const Shape& shape, const Args&... args) {
  if (shape.shared > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared)),
          name);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared;
  config.stream = context.stream;
  check(cudaLaunchKernelEx(&config, kernel, args...), name);
  if (context.synchronise) check(cudaStreamSynchronize(context.stream), name);
}

/// The first `count` floats of the workspace. Throws Error(memory) when it is smaller.
inline float* scratch(const CudaContext& context, std::size_t count) {
  if (count * sizeof(float) > context.workspace_bytes) {
    fail(Exit::memory, "a kernel needs ", count * sizeof(float), " bytes of workspace and has ",
         context.workspace_bytes, "; use a smaller batch");
  }
  return reinterpret_cast<float*>(context.workspace);
}

/// Calls f(T{}) with the C++ type of `type`.
template <class F>
void with_type(DType type, const F& f) {
  if (type == DType::bf16) {
    f(bf16{});
  } else {
    f(float{});
  }
}

constexpr int ceil_div(long a, long b) { return static_cast<int>((a + b - 1) / b); }
constexpr int larger(int a, int b) { return a > b ? a : b; }

}  // namespace kernels
}  // namespace tunas
