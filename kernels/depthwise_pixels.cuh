// Sixteen pixels of the source of an expansion (depthwise_expand.cuh) in the registers of a warp,
// and their product with the weights of eight channels: bf16 on tensor cores, float by plain
// multiply-adds in the order of k.
//
// Lane l holds the pixels l/4 and l/4 + 8: of u the channels 16*s + 4*(l%4) and the three behind
// it, of a product those of the channels 2*(l%4) and the next one. mma numbers the values of k
// otherwise, but the same for both operands; so a lane loads neighbours.
#pragma once

#include "kernels/activation.cuh"
#include "kernels/depthwise.cuh"
#include "kernels/pack.cuh"
#include "kernels/ptx.cuh"

namespace tunas::kernels {

/// u of one lane's two pixels: 16 channels a step.
template <class T>
struct ExpandedPixels {
  static constexpr int kSteps = 3;  // held at once

  Raw<T, 4> raw[kSteps][2];  // as they lie in memory, then u

  /// `from`: of the two pixels, the lane's first channel.
  __device__ void fetch(const T* const (&from)[2], int channels) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        raw[s][i] = {};
        if (s * Expanded::kDepth < channels) {
          raw[s][i] = load_raw<T, 4>(from[i] + s * Expanded::kDepth);
        }
      }
    }
  }
  /// `scale`, `shift`: of the lane's first channel.
  __device__ void make(Act act, const float* scale, const float* shift, int channels) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s * Expanded::kDepth >= channels) break;
      float by[4], plus[4], u[8];
      load(scale + s * Expanded::kDepth, by);
      load(shift + s * Expanded::kDepth, plus);
      unpack_row<4>(raw[s], u);
#pragma unroll
      for (int i = 0; i < 8; ++i) u[i] = by[i % 4] * u[i] + plus[i % 4];
      activate(act, u);
      store_part<T, 4>(reinterpret_cast<T*>(&raw[s][0]), u);
      store_part<T, 4>(reinterpret_cast<T*>(&raw[s][1]), u + 4);
    }
  }
};

/// sum += step s of u times the weights of eight channels from `w` on, `pitch` apart.
__device__ inline void multiply_step(const uint2 (&u)[2], const bf16* w, int pitch,
                                     float (&sum)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned rows[4] = {u[0].x, u[1].x, u[0].y, u[1].y};
  const uint2 columns = load_raw<bf16, 4>(w + lane / 4 * pitch + lane % 4 * 4);
  multiply_add(sum, rows, columns.x, columns.y);
}
__device__ inline void multiply_step(const uint4 (&u)[2], const float* w, int pitch,
                                     float (&sum)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float own[8];
  unpack_row<4>(u, own);
#pragma unroll 1
  for (int from = 0; from < 4; ++from) {  // the lanes that hold these pixels
    float w0[4], w1[4];
    load(w + lane % 4 * 2 * pitch + from * 4, w0);
    load(w + (lane % 4 * 2 + 1) * pitch + from * 4, w1);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float u0 = __shfl_sync(0xffffffffu, own[i], lane / 4 * 4 + from);
      const float u1 = __shfl_sync(0xffffffffu, own[4 + i], lane / 4 * 4 + from);
      sum[0] += u0 * w0[i];
      sum[1] += u0 * w1[i];
      sum[2] += u1 * w0[i];
      sum[3] += u1 * w1[i];
    }
  }
}

}  // namespace tunas::kernels
