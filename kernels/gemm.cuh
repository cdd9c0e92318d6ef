// Matrix product of operands that are made on load: C[128][N] += A[128][K]*B[N][K]^T, one block of
// eight warps, 32 values of K a step, two stages in shared memory. While one stage is multiplied
// the next is loaded into registers; on its way to shared memory an operand is normalised and
// activated (SourceOperand), becomes dy (IncomingOperand), or stays as it is (WeightOperand).
//
// An operand is a matrix [lines][width], packed along width. Read `along` K its lines are rows of
// A or B; read `across`, its lines are values of K and its columns the rows of A or B.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/reduce.cuh"

namespace tunas::kernels {

inline constexpr int kGemmThreads = 256, kGemmRows = 128, kGemmDepth = 32, kGemmPack = 8;

enum class Order { along, across };

struct WeightOperand {
  const bf16* w;
  int lines, width, ld;

  using Loaded = uint4;
  __device__ Loaded fetch(int line, int c) const {
    return load_raw<bf16, 8>(w + static_cast<long>(line) * ld + c);
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], const int (&)[E], int, uint4 (&out)[E]) const {
#pragma unroll
    for (int e = 0; e < E; ++e) out[e] = held[e];
  }
};

template <int E>
__device__ inline void pack_words(const float (&v)[E * 8], uint4 (&out)[E]) {
#pragma unroll
  for (int e = 0; e < E; ++e) {
    out[e] = {pack_bf16(v[8 * e], v[8 * e + 1]), pack_bf16(v[8 * e + 2], v[8 * e + 3]),
              pack_bf16(v[8 * e + 4], v[8 * e + 5]), pack_bf16(v[8 * e + 6], v[8 * e + 7])};
  }
}

struct SourceOperand {
  Source x;
  int lines, width;
  int pixels;  // of an image: which gate a line has

  using Loaded = uint4;
  __device__ Loaded fetch(int line, int c) const {
    const long at = static_cast<long>(line) * width + c;
    return load_raw<bf16, 8>(static_cast<const bf16*>(x.y.data) + at);
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], const int (&line)[E], int c,
                        uint4 (&out)[E]) const {
    if (!x.scale && x.act == Act::none && !x.gate) {
#pragma unroll
      for (int e = 0; e < E; ++e) out[e] = held[e];
      return;
    }
    const Reader<8> reader(x, c);
    float v[E * 8];
    reader.normalise_row(held, v);
    activate(x.act, v);
    if (x.gate) {
#pragma unroll
      for (int e = 0; e < E; ++e) {
        const int image = (line[e] < lines ? line[e] : 0) / pixels;
        float gate[8];
        load(x.gate + static_cast<long>(image) * width + c, gate);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[8 * e + i] *= gate[i];
      }
    }
    pack_words<E>(v, out);
  }
};

struct IncomingOperand {
  Incoming dy;
  int lines, width;

  struct Loaded {
    uint4 dz, y;
  };
  __device__ Loaded fetch(int line, int c) const {
    const long at = static_cast<long>(line) * width + c;
    Loaded l{load_raw<bf16, 8>(static_cast<const bf16*>(dy.dz.data) + at), {}};
    if (dy.ca) l.y = load_raw<bf16, 8>(static_cast<const bf16*>(dy.y.data) + at);
    return l;
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], const int (&)[E], int c, uint4 (&out)[E]) const {
    if (!dy.ca) {
#pragma unroll
      for (int e = 0; e < E; ++e) out[e] = held[e].dz;
      return;
    }
    const IncomingReader<8> reader(dy, c);
    float v[E * 8];
#pragma unroll
    for (int e = 0; e < E; ++e) {
      float dz[8], y[8];
      unpack<bf16>(held[e].dz, dz);
      unpack<bf16>(held[e].y, y);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[8 * e + i] = reader.value(i, dz[i], y[i]);
    }
    pack_words<E>(v, out);
  }
};

/// A stage of one operand: kSize rows of A or B by kGemmDepth of K, and the way it gets there.
template <class Operand, Order kOrder, int kSize>
struct Stage {
  static constexpr int kLines = kOrder == Order::along ? kSize : kGemmDepth;
  static constexpr int kWidth = kOrder == Order::along ? kGemmDepth : kSize;
  static constexpr int kStride = kWidth + 8;  // no two rows of a matrix in one bank
  static constexpr int kElements = kLines * kStride;
  static constexpr int kPacks = kWidth / kGemmPack;
  static constexpr int kEach = (kLines * kPacks + kGemmThreads - 1) / kGemmThreads;

  const Operand& operand;
  typename Operand::Loaded held[kEach];
  int line[kEach];
  int channel = 0;

  __device__ explicit Stage(const Operand& o) : operand(o) {}

  __device__ static int own_line(int e) {
    return (static_cast<int>(threadIdx.x) + e * kGemmThreads) / kPacks;
  }
  __device__ bool inside(int e) const {
    return own_line(e) < kLines && line[e] < operand.lines && channel < operand.width;
  }
  /// `row`: first row of A or B; `k`: first value of K.
  __device__ void fetch(int row, int k) {
    const int line0 = kOrder == Order::along ? row : k;
    channel =
        (kOrder == Order::along ? k : row) + static_cast<int>(threadIdx.x) % kPacks * kGemmPack;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      line[e] = line0 + own_line(e);
      held[e] = {};
      if (inside(e)) held[e] = operand.fetch(line[e], channel);
    }
  }
  __device__ void commit(bf16* stage) const {
    uint4 words[kEach];
    operand.words(held, line, channel < operand.width ? channel : 0, words);
    const int column = static_cast<int>(threadIdx.x) % kPacks * kGemmPack;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (own_line(e) >= kLines) break;
      *reinterpret_cast<uint4*>(stage + own_line(e) * kStride + column) =
          inside(e) ? words[e] : uint4{};
    }
  }
};

/// Warps stand four by two; each has 32 rows and kColumns/2 columns of C.
template <int kColumns>
struct Accumulators {
  static constexpr int kTiles = kColumns / 16;
  float v[2][kTiles][4];

  __device__ void clear() {
#pragma unroll
    for (auto& m : v) {
#pragma unroll
      for (auto& n : m) {
#pragma unroll
        for (float& x : n) x = 0;
      }
    }
  }
  /// Calls f(row, column, two neighbouring values).
  template <class F>
  __device__ void each(const F& f) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int row = warp % 4 * 32 + m * 16 + lane / 4;
        const int column = warp / 4 * (kColumns / 2) + n * 8 + lane % 4 * 2;
        f(row, column, v[m][n][0], v[m][n][1]);
        f(row + 8, column, v[m][n][2], v[m][n][3]);
      }
    }
  }
};

template <class A, Order kA, class B, Order kB, int kColumns>
struct Gemm {
  using StageA = Stage<A, kA, kGemmRows>;
  using StageB = Stage<B, kB, kColumns>;
  static constexpr int kStage = StageA::kElements + StageB::kElements;
  static constexpr int kSharedBytes = 2 * kStage * 2;

  __device__ static void multiply(const bf16* a, const bf16* b, Accumulators<kColumns>& c) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int j = lane / 8, r = lane % 8;  // row r of matrix j
    const int row0 = warp % 4 * 32, column0 = warp / 4 * (kColumns / 2);
#pragma unroll
    for (int k = 0; k < kGemmDepth; k += 16) {
      unsigned fa[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const int row = row0 + m * 16 + j % 2 * 8, depth = k + j / 2 * 8;
        if constexpr (kA == Order::along) {
          load_matrices<false>(fa[m], a + (row + r) * StageA::kStride + depth);
        } else {
          load_matrices<true>(fa[m], a + (depth + r) * StageA::kStride + row);
        }
      }
#pragma unroll
      for (int n = 0; n < kColumns / 32; ++n) {
        unsigned fb[4];
        const int column = column0 + n * 16 + j / 2 * 8, depth = k + j % 2 * 8;
        if constexpr (kB == Order::along) {
          load_matrices<false>(fb, b + (column + r) * StageB::kStride + depth);
        } else {
          load_matrices<true>(fb, b + (depth + r) * StageB::kStride + column);
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          multiply_add(c.v[m][2 * n], fa[m], fb[0], fb[1]);
          multiply_add(c.v[m][2 * n + 1], fa[m], fb[2], fb[3]);
        }
      }
    }
  }

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
  __device__ void run(int row, int next, int column, int begin, int end, bf16* stages,
                      Accumulators<kColumns>& c) {
    sa.commit(stages + now * kStage);
    sb.commit(stages + now * kStage + StageA::kElements);
    __syncthreads();
    for (int k = begin; k < end; k += kGemmDepth) {
      const bool more = k + kGemmDepth < end;
      if (more || next >= 0) {
        sa.fetch(more ? row : next, more ? k + kGemmDepth : begin);
        sb.fetch(column, more ? k + kGemmDepth : begin);
      }
      const bf16* stage = stages + now * kStage;
      multiply(stage, stage + StageA::kElements, c);
      if (more) {
        now ^= 1;
        sa.commit(stages + now * kStage);
        sb.commit(stages + now * kStage + StageA::kElements);
      }
      __syncthreads();
    }
  }
};

/// The epilogue's view of a finished tile, [128][kColumns] floats in shared memory: a thread has a
/// fixed pack of columns and visits every kSlots-th row.
template <int kColumns>
struct FinishedTile {
  static constexpr int kStride = kColumns + 4;
  static constexpr int kBytes = kGemmRows * kStride * 4;
  static constexpr int kLanes = kColumns / kGemmPack, kSlots = kGemmThreads / kLanes;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ static int slot() { return static_cast<int>(threadIdx.x) / kLanes; }

  __device__ static void write(const Accumulators<kColumns>& c, float* tile) {
    c.each([&](int row, int column, float v0, float v1) {
      *reinterpret_cast<float2*>(tile + row * kStride + column) = {v0, v1};
    });
    __syncthreads();
  }
  __device__ static void read(const float* tile, int row, float (&v)[kGemmPack]) {
    load(tile + row * kStride + lane() * kGemmPack, v);
  }
};

/// How many columns a block takes: the fewest blocks, then the least waste.
inline int gemm_columns(int n) { return n <= 32 ? 32 : n <= 64 ? 64 : 128; }

/// Calls f(integral_constant columns).
template <class F>
void with_columns(int n, const F& f) {
  switch (gemm_columns(n)) {
    case 32:
      return f(std::integral_constant<int, 32>{});
    case 64:
      return f(std::integral_constant<int, 64>{});
    default:
      return f(std::integral_constant<int, 128>{});
  }
}

constexpr int larger(int a, int b) { return a > b ? a : b; }

}  // namespace tunas::kernels
