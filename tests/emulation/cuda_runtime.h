// A small CUDA on the CPU, the part a kernel sees: qualifiers, vector types, built-in variables,
// barriers, warp intrinsics; and the part of the runtime API that tunas calls. The kernels' own .cu
// files are compiled against this by the host compiler (README.md).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#define TUNAS_EMULATED_CUDA 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One host thread runs the blocks one by one, so its thread-local memory is the block's.
#define __shared__ thread_local

struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}  // NOLINT
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace tunas::emulation {

/// Runs `body` once per thread of the grid: blocks one after another, the threads of a block as
/// fibers in shuffled order. What goes wrong (threads of a block that never meet at a barrier, and
/// what the observer finds) is the error of the next synchronisation.
void run_grid(dim3 grid, dim3 block, std::size_t shared, const std::function<void()>& body);

void barrier();
/// Meets the other lanes of `mask`; the last one runs `join` with everybody's `payload`, lane by
/// lane (null outside the mask), before anyone goes on.
void meet(unsigned mask, void* payload, void (*join)(void** payloads));

}  // namespace tunas::emulation

inline void __syncthreads() { tunas::emulation::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  tunas::emulation::meet(mask, nullptr, [](void**) {});
}

namespace tunas::emulation {

template <class T>
T shuffle(unsigned mask, T value, int from) {
  struct Payload {
    T value;
    int from;
  } payload{value, from & 31};
  meet(mask, &payload, [](void** lanes) {
    T before[32];
    for (int i = 0; i < 32; ++i) {
      if (lanes[i]) before[i] = static_cast<Payload*>(lanes[i])->value;
    }
    for (int i = 0; i < 32; ++i) {
      if (!lanes[i]) continue;
      auto* p = static_cast<Payload*>(lanes[i]);
      if (lanes[p->from]) p->value = before[p->from];
    }
  });
  return payload.value;
}
inline int lane() { return static_cast<int>(threadIdx.x) % 32; }

}  // namespace tunas::emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int from) {
  return tunas::emulation::shuffle(mask, value, from);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return tunas::emulation::shuffle(mask, value, tunas::emulation::lane() ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  const int from = tunas::emulation::lane() + static_cast<int>(by);
  return tunas::emulation::shuffle(mask, value, from < 32 ? from : tunas::emulation::lane());
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float __saturatef(float x) { return x >= 1 ? 1.0f : x > 0 ? x : 0.0f; }  // NaN becomes 0
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
template <class T>
T __ldg(const T* from) {
  return *from;
}
/// Not seen by the observer: no race.
__attribute__((no_sanitize("thread"), noinline)) inline unsigned atomicAdd(unsigned* to,
                                                                           unsigned value) {
  const unsigned before = *to;
  *to = before + value;
  return before;
}
__attribute__((no_sanitize("thread"), noinline)) inline unsigned atomicMax(unsigned* to,
                                                                           unsigned value) {
  const unsigned before = *to;
  *to = before > value ? before : value;
  return before;
}
__attribute__((no_sanitize("thread"), noinline)) inline unsigned atomicMin(unsigned* to,
                                                                           unsigned value) {
  const unsigned before = *to;
  *to = before < value ? before : value;
  return before;
}
using std::isfinite;
using std::isnan;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
inline constexpr unsigned cudaHostAllocDefault = 0;

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  int multiProcessorCount, major, minor;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  void* attrs = nullptr;
  unsigned numAttrs = 0;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total);
cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemset(void* to, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

template <class T>
cudaError_t cudaMalloc(T** data, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(data), bytes);
}
template <class F>
cudaError_t cudaFuncSetAttribute(F*, cudaFuncAttribute, int value) {
  return value <= 227 * 1024 ? cudaSuccess : cudaErrorInvalidValue;
}

namespace tunas::emulation {
/// Puts a grid on a stream; it runs when something waits for it (streams.cpp).
cudaError_t enqueue_grid(const cudaLaunchConfig_t& config, std::function<void()> body);
}  // namespace tunas::emulation

/// Arguments are copied here, as CUDA does, and once more for each thread.
template <class... Parameters, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Args&&... args) {
  return tunas::emulation::enqueue_grid(
      *config, [kernel, ... held = std::decay_t<Parameters>(args)] { kernel(held...); });
}
