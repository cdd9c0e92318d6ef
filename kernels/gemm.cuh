// Matrix product of operands that are made on load (operand.cuh): C[128][N] += A[128][K]*B[N][K]^T,
// one block of eight warps, 64 bytes of K a step (32 values of bf16, 16 of float), two stages in
// shared memory: while one is multiplied (multiply.cuh) the next is loaded into registers.
#pragma once

#include <type_traits>

#include "kernels/multiply.cuh"
#include "kernels/reduce.cuh"

namespace tunas::kernels {

template <class A, Order kA, class B, Order kB, int kColumns>
struct Gemm {
  using T = typename A::Element;
  static_assert(std::is_same_v<T, typename B::Element>);
  using StageA = Stage<A, kA, kGemmRows>;
  using StageB = Stage<B, kB, kColumns>;
  static constexpr int kStage = StageA::kElements + StageB::kElements;
  static constexpr int kSharedBytes = 2 * kStage * static_cast<int>(sizeof(T));

  StageA sa;
  StageB sb;
  int now = 0;

  /// Begins with the loads of the first step from k of the rows from `row` of A, `column` of B.
  __device__ Gemm(const A& a, const B& b, int row, int column, int k) : sa(a), sb(b) {
    sa.fetch(row, k);
    sb.fetch(column, k);
  }

  /// c += over k in [begin, end). Ends with the loads of the first step of `next`, the row the
  /// following run starts from (negative: none), so that they pass under the epilogue. All threads
  /// must call it; afterwards the stages are free until the following run.
  __device__ void run(int row, int next, int column, int begin, int end, T* stages,
                      Accumulators<kColumns>& c) {
    sa.commit(stages + now * kStage);
    sb.commit(stages + now * kStage + StageA::kElements);
    __syncthreads();
    for (int k = begin; k < end; k += kGemmDepth<T>) {
      const bool more = k + kGemmDepth<T> < end;
      if (more || next >= 0) {
        sa.fetch(more ? row : next, more ? k + kGemmDepth<T> : begin);
        sb.fetch(column, more ? k + kGemmDepth<T> : begin);
      }
      const T* stage = stages + now * kStage;
      multiply<StageA, StageB>(stage, stage + StageA::kElements, c);
      if (more) {
        now ^= 1;
        sa.commit(stages + now * kStage);
        sb.commit(stages + now * kStage + StageA::kElements);
      }
      __syncthreads();
    }
  }
};

/// The epilogue's view of a finished tile, [rows][kColumns] of T in shared memory: a thread has a
/// fixed pack of the columns that exist and visits every slots-th row, so that a narrow slice idles
/// only the threads that are left of whole rows.
template <class T, int kColumns, int kTileRows = kGemmRows, int kThreads = kGemmThreads,
          int kOwn = kGemmPack>
struct FinishedTile {
  static constexpr int kRows = kTileRows, kPack = kOwn, kThreadCount = kThreads;
  static constexpr int kStride = kColumns + 16 / static_cast<int>(sizeof(T));
  static constexpr int kBytes = kRows * kStride * static_cast<int>(sizeof(T));

  int lanes, slots, lane, slot;

  /// `columns`: from the first one to the end of the matrix.
  __device__ explicit FinishedTile(int columns)
      : lanes((columns < kColumns ? columns : kColumns) / kPack),
        slots(kThreads / lanes),
        lane(static_cast<int>(threadIdx.x % lanes)),
        slot(static_cast<int>(threadIdx.x / lanes)) {}

  /// The thread's first row; idle threads have none.
  __device__ int first_row() const { return slot < slots ? slot : kRows; }
  __device__ static void write(const Accumulators<kColumns, kRows, kThreads>& c, T* tile) {
    c.each([&](int row, int column, float v0, float v1) {
      store(tile + row * kStride + column, {v0, v1});
    });
    __syncthreads();
  }
  __device__ void read(const T* tile, int row, float (&v)[kPack]) const {
    load(tile + row * kStride + lane * kPack, v);
  }
  /// As it lies in memory.
  __device__ Raw<T, kPack> read_raw(const T* tile, int row) const {
    return load_raw<T, kPack>(tile + row * kStride + lane * kPack);
  }
};

/// How many columns a block takes: the fewest blocks, then the least waste.
inline int gemm_columns(int n) { return n <= 32 ? 32 : n <= 64 ? 64 : 128; }

/// Calls f(integral_constant columns). Tiles of floats end at 64: they exist to be compared with.
template <class T, class F>
void with_columns(int n, const F& f) {
  switch (gemm_columns(n)) {
    case 32:
      return f(std::integral_constant<int, 32>{});
    case 64:
      return f(std::integral_constant<int, 64>{});
    default:
      return f(std::integral_constant < int, std::is_same_v<T, float> ? 64 : 128 > {});
  }
}

}  // namespace tunas::kernels
