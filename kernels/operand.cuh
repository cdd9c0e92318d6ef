// Operands of a matrix product (gemm.cuh) that are made on load: matrices [lines][width] of T,
// packed along width. A thread fetches packs as they lie in memory and makes words of the product
// of them on their way to shared memory (stage.cuh): normalised, activated and gated
// (SourceOperand), turned into dy (IncomingOperand), or as they are (WeightOperand). Backward of an
// output that is not stored has one more (expanded_operand.cuh).
#pragma once

#include "kernels/source.cuh"

namespace tunas::kernels {

inline constexpr int kGemmPack = 8;

template <class T>
using GemmPack = Raw<T, kGemmPack>;

/// A pack as it lies in memory, from floats.
template <class T>
__device__ inline void pack_words(const float (&v)[kGemmPack], GemmPack<T>& out) {
  store_part<T, kGemmPack>(reinterpret_cast<T*>(&out), v);
}

template <class T>
struct WeightOperand {
  const T* w;
  int lines, width, ld;

  using Element = T;
  using Loaded = GemmPack<T>;
  __device__ Loaded fetch(int line, int c) const {
    return load_raw<T, kGemmPack>(w + static_cast<long>(line) * ld + c);
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], int, int, int, GemmPack<T> (&out)[E]) const {
#pragma unroll
    for (int e = 0; e < E; ++e) out[e] = held[e];
  }
};

/// The image of a line, line/pixels, for lines below 2^31: with 2^(s-31) the least power of two
/// that is not below pixels, the factor 2^s/pixels + 1 errs by less than 2^(s-31)/pixels a line.
struct Images {
  unsigned factor;
  int shift = 31;

  Images(int pixels) {  // NOLINT: a number of pixels is what stands for it
    while (1LL << (shift - 31) < pixels) ++shift;
    factor = static_cast<unsigned>((1ULL << shift) / static_cast<unsigned>(pixels) + 1);
  }
  __device__ int of(int line) const {
    return static_cast<int>(static_cast<unsigned long long>(line) * factor >> shift);
  }
};

template <class T>
struct SourceOperand {
  Source x;
  int lines, width;
  Images images;  // which gate a line has

  using Element = T;
  using Loaded = GemmPack<T>;
  __device__ Loaded fetch(int line, int c) const {
    const long at = static_cast<long>(line) * width + c;
    return load_raw<T, kGemmPack>(static_cast<const T*>(x.y.data) + at);
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], int line, int step, int c,
                        GemmPack<T> (&out)[E]) const {
    if (!x.scale && x.act == Act::none && !x.gate) {
#pragma unroll
      for (int e = 0; e < E; ++e) out[e] = held[e];
      return;
    }
    const Reader<kGemmPack> reader(x, c);
#pragma unroll
    for (int e = 0; e < E; ++e) {  // one pack after another: accumulators hold the registers
      float v[kGemmPack];
      unpack<T>(held[e], v);
      reader.value(v);
      if (x.gate) {
        const int at = line + e * step, image = images.of(at < lines ? at : 0);
        float gate[kGemmPack];
        load(x.gate + static_cast<long>(image) * width + c, gate);
#pragma unroll
        for (int i = 0; i < kGemmPack; ++i) v[i] *= gate[i];
      }
      pack_words<T>(v, out[e]);
    }
  }
};

template <class T>
struct IncomingOperand {
  Incoming dy;
  int lines, width;
  Images images;  // which spread a line has

  using Element = T;
  struct Loaded {
    GemmPack<T> dz, y;
  };
  __device__ Loaded fetch(int line, int c) const {
    const long at = static_cast<long>(line) * width + c;
    Loaded l{};
    if (dy.dz.data) l.dz = load_raw<T, kGemmPack>(static_cast<const T*>(dy.dz.data) + at);
    if (reads_y(dy)) l.y = load_raw<T, kGemmPack>(static_cast<const T*>(dy.y.data) + at);
    return l;
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], int line, int step, int c,
                        GemmPack<T> (&out)[E]) const {
    if (!reads_y(dy)) {
#pragma unroll
      for (int e = 0; e < E; ++e) out[e] = held[e].dz;
      return;
    }
    // Two channels of all lines after another: accumulators hold the registers.
    constexpr int kPart = 2;
#pragma unroll
    for (int part = 0; part < kGemmPack / kPart; ++part) {
      const IncomingReader<kPart> reader(dy, c + part * kPart);
#pragma unroll
      for (int e = 0; e < E; ++e) {
        float dz[kPart], y[kPart];
        unpack<T>(reinterpret_cast<const Raw<T, kPart>*>(&held[e].dz)[part], dz);
        unpack<T>(reinterpret_cast<const Raw<T, kPart>*>(&held[e].y)[part], y);
        const int at = line + e * step;
        undefer(dy.deferred, images.of(at < lines ? at : 0), width, c + part * kPart, y, dz);
#pragma unroll
        for (int i = 0; i < kPart; ++i) dz[i] = reader.value(i, dz[i], y[i]);
        store(reinterpret_cast<T*>(&out[e]) + part * kPart, dz);
      }
    }
  }
};

}  // namespace tunas::kernels
