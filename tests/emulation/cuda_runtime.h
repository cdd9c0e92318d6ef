// A small CUDA on the CPU, the part a kernel sees: qualifiers, built-in variables, barriers, warp
// intrinsics; and its launch. The kernels' own .cu files are compiled against this by the host
// compiler (README.md).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

#define TUNAS_EMULATED_CUDA 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One host thread runs the blocks one by one, so its thread-local memory is the block's.
#define __shared__ thread_local

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
