// Packs: N neighbouring channels of a packed tensor, moved as one word (16 bytes for 8 bf16) and
// computed on as floats.
#pragma once

#include "kernels/vendor/cuda.h"

namespace tunas::kernels {

struct alignas(16) Wide {
  uint4 low, high;
};

template <int kBytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<32> {
  using type = Wide;
};

/// N channels as they lie in memory.
template <class T, int N>
using Raw = typename Word<static_cast<int>(sizeof(T)) * N>::type;

template <class T, int N>
__device__ inline Raw<T, N> load_raw(const T* from) {
  return *reinterpret_cast<const Raw<T, N>*>(from);
}

__device__ inline float bf16_bits(unsigned bits) { return __uint_as_float(bits << 16); }

/// The word's N channels as floats at `v`; its size says of which type they are.
template <int N, class Word>
__device__ inline void unpack_to(const Word& raw, float* v) {
  if constexpr (sizeof(Word) == 4 * N) {
    const auto* words = reinterpret_cast<const float*>(&raw);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = words[i];
  } else if constexpr (N == 1) {
    v[0] = bf16_bits(raw);
  } else {
    const auto* words = reinterpret_cast<const unsigned*>(&raw);
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      v[2 * i] = bf16_bits(words[i]);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
}

template <class T, int N>
__device__ inline void unpack(const Raw<T, N>& raw, float (&v)[N]) {
  unpack_to<N>(raw, v);
}

template <int N, class Word, int kPacks>
__device__ inline void unpack_row(const Word (&raw)[kPacks], float (&v)[kPacks * N]) {
#pragma unroll
  for (int x = 0; x < kPacks; ++x) unpack_to<N>(raw[x], v + x * N);
}

template <class T, int N>
__device__ inline void load(const T* from, float (&v)[N]) {
  unpack<T, N>(load_raw<T, N>(from), v);
}

__device__ inline unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

template <class T, int N>
__device__ inline void store_part(T* to, const float* v) {
  if constexpr (sizeof(T) == 2 && N == 1) {
    *to = __float2bfloat16_rn(v[0]);
  } else {
    Raw<T, N> raw;
    auto* words = reinterpret_cast<unsigned*>(&raw);
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < N; ++i) words[i] = __float_as_uint(v[i]);
    } else {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) words[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    }
    *reinterpret_cast<Raw<T, N>*>(to) = raw;
  }
}

template <class T, int N>
__device__ inline void store(T* to, const float (&v)[N]) {
  store_part<T, N>(to, v);
}

}  // namespace tunas::kernels
