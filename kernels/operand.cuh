// Operands of a matrix product (gemm.cuh) that are made on load, and their way to shared memory.
//
// An operand is a matrix [lines][width] of T, packed along width. Read `along` K its lines are rows
// of A or B; read `across`, its lines are values of K and its columns the rows of A or B. It is
// fetched into registers as it lies in memory and becomes words of the product on its way to shared
// memory: normalised, activated and gated (SourceOperand), turned into dy (IncomingOperand), put
// beside u (ExpandedOperand), or as it is (WeightOperand).
#pragma once

#include "kernels/source.cuh"

namespace tunas::kernels {

inline constexpr int kGemmThreads = 256, kGemmPack = 8;

/// Values of K a step: 64 bytes of a line.
template <class T>
inline constexpr int kGemmDepth = 64 / static_cast<int>(sizeof(T));

enum class Order { along, across };

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

template <class T>
struct SourceOperand {
  Source x;
  int lines, width;
  int pixels;  // of an image: which gate a line has

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
        const int at = line + e * step, image = (at < lines ? at : 0) / pixels;
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
  int pixels;  // of an image: which spread a line has

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
        undefer(dy.deferred, (at < lines ? at : 0) / pixels, width, c + part * kPart, y, dz);
#pragma unroll
        for (int i = 0; i < kPart; ++i) dz[i] = reader.value(i, dz[i], y[i]);
        store(reinterpret_cast<T*>(&out[e]) + part * kPart, dz);
      }
    }
  }
};

/// [dz | u | 1 1 1 0 ...] of an output that is not stored (pointwise.h), its last pack a constant.
template <class T>
struct ExpandedOperand {
  const T* dz;
  SourceOperand<T> u;
  int lines, width;
  int out;  // columns of dz

  using Element = T;
  using Loaded = GemmPack<T>;
  __device__ Loaded fetch(int line, int c) const {
    if (c < out) return load_raw<T, kGemmPack>(dz + static_cast<long>(line) * out + c);
    if (c < out + u.width) return u.fetch(line, c - out);
    return {};
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], int line, int step, int c,
                        GemmPack<T> (&to)[E]) const {
    if (c >= out && c < out + u.width) return u.words(held, line, step, c - out, to);
    const float ones[kGemmPack] = {1, 1, 1};
#pragma unroll
    for (int e = 0; e < E; ++e) {
      to[e] = held[e];
      if (c >= out) pack_words<T>(ones, to[e]);
    }
  }
};

/// A stage of one operand: kSize rows of A or B by kDepth of K, and the way it gets there.
template <class Operand, Order kRead, int kSize, int kDepth = kGemmDepth<typename Operand::Element>,
          int kThreads = kGemmThreads>
struct Stage {
  using T = typename Operand::Element;
  static constexpr Order kOrder = kRead;
  static constexpr int kLines = kOrder == Order::along ? kSize : kDepth;
  static constexpr int kWidth = kOrder == Order::along ? kDepth : kSize;
  // 16 bytes more: the lines a warp reads together lie in different banks.
  static constexpr int kStride = kWidth + 16 / static_cast<int>(sizeof(T));
  static constexpr int kElements = kLines * kStride;
  static constexpr int kPacks = kWidth / kGemmPack;
  static constexpr int kEach = (kLines * kPacks + kThreads - 1) / kThreads;
  static constexpr int kStep = kThreads / kPacks;  // lines from one of a thread's packs on

  const Operand& operand;
  typename Operand::Loaded held[kEach];
  int line = 0;  // of the first pack
  int channel = 0;

  __device__ explicit Stage(const Operand& o) : operand(o) {}

  __device__ static int own_line(int e) {
    return static_cast<int>(threadIdx.x) / kPacks + e * kStep;
  }
  __device__ bool inside(int e) const {
    return own_line(e) < kLines && line + e * kStep < operand.lines && channel < operand.width;
  }
  /// `row`: first row of A or B; `k`: first value of K.
  __device__ void fetch(int row, int k) {
    line = (kOrder == Order::along ? row : k) + own_line(0);
    channel =
        (kOrder == Order::along ? k : row) + static_cast<int>(threadIdx.x) % kPacks * kGemmPack;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      held[e] = {};
      if (inside(e)) held[e] = operand.fetch(line + e * kStep, channel);
    }
  }
  __device__ void commit(T* stage) const {
    GemmPack<T> words[kEach];
    operand.words(held, line, kStep, channel < operand.width ? channel : 0, words);
    const int column = static_cast<int>(threadIdx.x) % kPacks * kGemmPack;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (own_line(e) >= kLines) break;
      *reinterpret_cast<GemmPack<T>*>(stage + own_line(e) * kStride + column) =
          inside(e) ? words[e] : GemmPack<T>{};
    }
  }
  /// What was fetched, as it lies in memory; only where that is.
  __device__ void commit_raw(T* stage) const {
    const int column = static_cast<int>(threadIdx.x) % kPacks * kGemmPack;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (inside(e))
        *reinterpret_cast<GemmPack<T>*>(stage + own_line(e) * kStride + column) = held[e];
    }
  }
};

}  // namespace tunas::kernels
