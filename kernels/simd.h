// Vec: kLanes floats, for the loops that are compiled once per instruction set (isa.h). Only
// X_loops.cpp may include this file.
//
//   widths are multiples of 8: for_channels(c, f) calls f(i, Full) for whole vectors and, with 16
//   lanes, f(i, Half) for a last 8; load and store take that part.
//   with_act(act, f) calls f(Activation<A>) once, so that the switch is outside the loop;
//   activate<A>(z) and derivative<A>(z) are the formulas of types.h and source.h.
//
// Arithmetic is the compiler's vector extension (a*b + c becomes an fma where there is one).
// NaN passes through every activation.
#pragma once

#ifndef TUNAS_ISA
#error "simd.h belongs to files named X_loops.cpp, which are compiled once per instruction set"
#endif

#include "kernels/types.h"

namespace tunas::kernels::cpu::TUNAS_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int IntVec __attribute__((vector_size(4 * kLanes)));

namespace {

struct Full {};
struct Half {};  // the lower 8 of 16 lanes; the others load as 0 and are not stored

inline Vec broadcast(float x) { return x - Vec{}; }

inline Vec load(const float* p, Full = {}) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v, Full = {}) { __builtin_memcpy(p, &v, sizeof v); }

#if defined(__AVX512F__)
typedef float HalfVec __attribute__((vector_size(32)));

inline Vec load(const float* p, Half) {
  HalfVec v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_shufflevector(v, HalfVec{}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8);
}
inline void store(float* p, Vec v, Half) {
  const HalfVec half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  __builtin_memcpy(p, &half, sizeof half);
}
#endif

/// b where either is NaN: one instruction on x86, which GCC 12 does not find with AVX-512.
#if defined(__AVX512F__)
inline Vec min(Vec a, Vec b) {
  asm("vminps %1, %0, %0" : "+v"(a) : "v"(b));
  return a;
}
inline Vec max(Vec a, Vec b) {
  asm("vmaxps %1, %0, %0" : "+v"(a) : "v"(b));
  return a;
}
#else
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
#endif
inline Vec clamp(Vec x, float low, float high) {
  return min(broadcast(high), max(broadcast(low), x));
}

/// e^x to 1 ulp for x in [-87, 88], which it is clamped to: x = n*ln2 + r with |r| <= ln2/2, the
/// polynomial of Cephes' expf in r, and n added to the exponent. ln2 is split so that n*kLn2High
/// is exact.
inline Vec exp(Vec x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer in the low bits
  x = clamp(x, -87.0f, 88.0f);
  const Vec shifted = x * kLog2E + kRound;
  const Vec n = shifted - kRound;
  const Vec r = (x - n * kLn2High) - n * kLn2Low;
  const Vec p = (1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f;
  const Vec q = ((p * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
  const IntVec exponent = ((IntVec)shifted - 0x4B400000 + 127) << 23;
  return (q * r * r + r + 1.0f) * (Vec)exponent;
}

template <Act A>
struct Activation {
  static constexpr Act value = A;
};

template <Act A>
inline Vec activate(Vec z) {
  if constexpr (A == Act::relu) return max(Vec{}, z);
  if constexpr (A == Act::relu6) return clamp(z, 0, 6);
  if constexpr (A == Act::hard_sigmoid) return clamp(z + 3.0f, 0, 6) * (1.0f / 6);
  if constexpr (A == Act::hard_swish) return z * (clamp(z + 3.0f, 0, 6) * (1.0f / 6));
  if constexpr (A == Act::sigmoid) return 1.0f / (1.0f + exp(-z));
  return z;
}

/// hard_swish' = hard_sigmoid + z*hard_sigmoid', hence 0 up to -3 and 1 from 3 on.
template <Act A>
inline Vec derivative(Vec z) {
  const Vec one = broadcast(1), zero = {};
  if constexpr (A == Act::relu) return z > 0.0f ? one : zero;
  if constexpr (A == Act::relu6) return (z > 0.0f) & (z < 6.0f) ? one : zero;
  if constexpr (A == Act::hard_sigmoid) {
    return (z > -3.0f) & (z < 3.0f) ? broadcast(1.0f / 6) : zero;
  }
  if constexpr (A == Act::hard_swish) {
    const Vec above = z > -3.0f ? z * (1.0f / 3) + 0.5f : zero;
    return z < 3.0f ? above : one;
  }
  if constexpr (A == Act::sigmoid) {
    const Vec s = activate<Act::sigmoid>(z);
    return s * (1.0f - s);
  }
  return one;
}

template <class F>
inline void with_act(Act act, F&& f) {
  if (act == Act::none) f(Activation<Act::none>{});
  if (act == Act::relu) f(Activation<Act::relu>{});
  if (act == Act::relu6) f(Activation<Act::relu6>{});
  if (act == Act::hard_swish) f(Activation<Act::hard_swish>{});
  if (act == Act::sigmoid) f(Activation<Act::sigmoid>{});
  if (act == Act::hard_sigmoid) f(Activation<Act::hard_sigmoid>{});
}

template <class F>
inline void for_channels(int c, F&& f) {
  int i = 0;
  for (; i + kLanes <= c; i += kLanes) f(i, Full{});
#if defined(__AVX512F__)
  if (i < c) f(i, Half{});
#endif
}

}  // namespace
}  // namespace tunas::kernels::cpu::TUNAS_ISA
