// The activations and their derivatives (activation.h) of the values a thread holds, in the
// hardware's exponentials and saturations.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/types.h"

namespace tunas::kernels {

__device__ inline float hard_sigmoid_of(float z) { return __saturatef(z * (1.0f / 6.0f) + 0.5f); }
__device__ inline float sigmoid_of(float z) { return __fdividef(1.0f, 1.0f + __expf(-z)); }

/// v <- act(v). The switch stands outside the loop: give it as many values at once as there are.
template <int N>
__device__ inline void activate(Act act, float (&v)[N]) {
  switch (act) {
    case Act::none:
      break;
    case Act::relu:
#pragma unroll
      for (float& z : v) z = relu_of(z);
      break;
    case Act::relu6:
#pragma unroll
      for (float& z : v) z = at_most_6(relu_of(z));
      break;
    case Act::hard_swish:
#pragma unroll
      for (float& z : v) z *= hard_sigmoid_of(z);
      break;
    case Act::sigmoid:
#pragma unroll
      for (float& z : v) z = sigmoid_of(z);
      break;
    case Act::hard_sigmoid:
#pragma unroll
      for (float& z : v) z = hard_sigmoid_of(z);
      break;
  }
}

/// d <- d*act'(z).
template <int N>
__device__ inline void activate_backward(Act act, const float (&z)[N], float (&d)[N]) {
  switch (act) {
    case Act::none:
      break;
    case Act::relu:
#pragma unroll
      for (int i = 0; i < N; ++i) d[i] = z[i] > 0 ? d[i] : 0.0f;
      break;
    case Act::relu6:
#pragma unroll
      for (int i = 0; i < N; ++i) d[i] = z[i] > 0 && z[i] < 6 ? d[i] : 0.0f;
      break;
    case Act::hard_swish:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float slope = fabsf(z[i]) < 3 ? z[i] * (1.0f / 6.0f) : 0.0f;
        d[i] *= hard_sigmoid_of(z[i]) + slope;
      }
      break;
    case Act::sigmoid:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float s = sigmoid_of(z[i]);
        d[i] *= s * (1 - s);
      }
      break;
    case Act::hard_sigmoid:
#pragma unroll
      for (int i = 0; i < N; ++i) d[i] = fabsf(z[i]) < 3 ? d[i] * (1.0f / 6.0f) : 0.0f;
      break;
  }
}

}  // namespace tunas::kernels
