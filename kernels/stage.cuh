// The way of an operand (operand.cuh) to shared memory: kSize rows of A or B by kDepth values of K
// a step, loaded into registers by all threads of a block and put down as words of the product.
//
// Read `along` K an operand's lines are rows of A or B; read `across`, its lines are values of K
// and its columns the rows of A or B. What lies outside the operand is zero.
#pragma once

#include "kernels/operand.cuh"

namespace tunas::kernels {

inline constexpr int kGemmThreads = 256;

/// Values of K a step: 64 bytes of a line.
template <class T>
inline constexpr int kGemmDepth = 64 / static_cast<int>(sizeof(T));

enum class Order { along, across };

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
