// The micro-kernel keeps kRows x (up to kVecs) vectors of c in registers, and for each k
// broadcasts kRows elements of a against one row of b: 24 multiply-adds for 11 loads on AVX-512.
// A last half vector (widths are multiples of 8) is a 256-bit register: no lane is wasted.
// Its twin is gemm_onednn.cpp.
#include "kernels/gemm_loops.h"

#include "kernels/simd.h"

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kRows = 8, kVecs = 3;
#else
constexpr int kRows = 6, kVecs = 2;
typedef Vec HalfVec;  // never used: every width is a whole number of vectors
#endif
constexpr Panels kPanels = {kLanes < 8 ? 8 : kLanes, kLanes < 8 ? 1 : kVecs};

template <class V>
inline V load_as(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
inline void store_as(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// One block of c: `a` at its first row, everything else at its first column.
struct Block {
  int k;
  const float* a;
  long lda;
  const float* b;
  long ldb;
  const float* bias;
  float* c;
  long ldc;
  ColumnSums sums;
  const char* ahead[2];  // the next line to fetch, and bytes to go on for each k
  long step[2];
};

enum class Order { rows, columns };  // of a: [m][k], or [k][m] for the transposed product
enum class Store { overwrite, accumulate, overwrite_and_sum };

// One column of vectors of a finished block: bias, sums, store.
template <Store How, int Rows, class V, class Column>
inline void finish(const Block& args, int at, const Column& column) {
  V sum, square, pivot;
  if constexpr (How == Store::overwrite_and_sum) {
    const bool start = args.sums.start;
    sum = start ? V{} : load_as<V>(args.sums.sum + at);
    square = start ? V{} : load_as<V>(args.sums.square + at);
    if (start) store_as(args.sums.pivot + at, column(0));
    pivot = load_as<V>(args.sums.pivot + at);
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    float* c = args.c + r * args.ldc + at;
    V y = column(r);
    if constexpr (How == Store::accumulate) y += load_as<V>(c);
    if constexpr (How == Store::overwrite_and_sum) {
      const V d = y - pivot;
      sum += d;
      square += d * d;
    }
    store_as(c, y);
  }
  if constexpr (How == Store::overwrite_and_sum) {
    store_as(args.sums.sum + at, sum);
    store_as(args.sums.square + at, square);
  }
}

template <Order A, Store How, int Rows, int Vecs, int Halves>
void block(const Block& args) {
  Vec sum[Rows][Vecs ? Vecs : 1] = {};
  HalfVec last[Rows] = {};
  const float* a = args.a;
  const float* b = args.b;
  const char* ahead[2] = {args.ahead[0], args.ahead[1]};
  for (int k = 0; k < args.k; ++k) {
    __builtin_prefetch(ahead[0], 0, 2);
    __builtin_prefetch(ahead[1], 0, 2);
    ahead[0] += args.step[0];
    ahead[1] += args.step[1];
    Vec b_row[Vecs ? Vecs : 1];
    HalfVec b_last;
#pragma GCC unroll 8
    for (int v = 0; v < Vecs; ++v) b_row[v] = load(b + v * kLanes);
    if constexpr (Halves) b_last = load_as<HalfVec>(b + Vecs * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const float x = A == Order::rows ? a[r * args.lda] : a[r];
#pragma GCC unroll 8
      for (int v = 0; v < Vecs; ++v) sum[r][v] += x * b_row[v];
      if constexpr (Halves) last[r] += x * b_last;
    }
    a += A == Order::rows ? 1 : args.lda;
    b += args.ldb;
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vecs; ++v) {
    const Vec bias = args.bias ? load(args.bias + v * kLanes) : Vec{};
    finish<How, Rows, Vec>(args, v * kLanes, [&](int r) { return sum[r][v] + bias; });
  }
  if constexpr (Halves) {
    const HalfVec bias = args.bias ? load_as<HalfVec>(args.bias + Vecs * kLanes) : HalfVec{};
    finish<How, Rows, HalfVec>(args, Vecs * kLanes, [&](int r) { return last[r] + bias; });
  }
}

template <Order A, Store How, int Vecs, int Halves>
void panel(int m, Block& args) {
  const long step = A == Order::rows ? args.lda : 1;
  const auto next = [&](int rows) {
    args.a += rows * step;
    args.c += rows * args.ldc;
    args.sums.start = false;
    for (int i = 0; i < 2; ++i) args.ahead[i] += args.k * args.step[i];
  };
  for (; m >= kRows; m -= kRows) {
    block<A, How, kRows, Vecs, Halves>(args);
    next(kRows);
  }
  for (; m > 0; --m) {
    block<A, How, 1, Vecs, Halves>(args);
    next(1);
  }
}

template <Order A, Store How>
void panel_of_width(int width, int m, Block& args) {
  switch (width * 2 / kLanes) {
#if defined(__AVX512F__)
    case 1:
      return panel<A, How, 0, 1>(m, args);
    case 3:
      return panel<A, How, 1, 1>(m, args);
    case 5:
      return panel<A, How, 2, 1>(m, args);
    case 6:
      return panel<A, How, 3, 0>(m, args);
#endif
    case 2:
      return panel<A, How, 1, 0>(m, args);
    case 4:
      return panel<A, How, 2, 0>(m, args);
  }
}

typedef float Four __attribute__((vector_size(16)));

// packed[k][n] = b[n][k] for 4 x 4 elements.
inline void transpose(const float* b, long ldb, float* packed, long width) {
  const Four r0 = load_as<Four>(b), r1 = load_as<Four>(b + ldb), r2 = load_as<Four>(b + 2 * ldb),
             r3 = load_as<Four>(b + 3 * ldb);
  const Four a0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
  const Four a1 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
  const Four a2 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const Four a3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  store_as(packed, __builtin_shufflevector(a0, a1, 0, 1, 4, 5));
  store_as(packed + width, __builtin_shufflevector(a0, a1, 2, 3, 6, 7));
  store_as(packed + 2 * width, __builtin_shufflevector(a2, a3, 0, 1, 4, 5));
  store_as(packed + 3 * width, __builtin_shufflevector(a2, a3, 2, 3, 6, 7));
}

// Weights come from memory in rows far apart, which no processor foresees: whole lines at a time,
// and the lines of the next rows or columns fetched ahead.
void pack(const Pack& args, int p) {
  constexpr int kLine = 16, kAhead = 16;
  const int begin = kPanels.begin(args.n, p), end = kPanels.begin(args.n, p + 1);
  const int width = end - begin, n_end = end < args.n ? end : args.n;
  float* const packed = args.packed + long{args.k} * begin;
  const float* const b = args.b + begin * args.column;
  const auto element = [&](int k, int n) {
    packed[long{k} * width + n] = begin + n < args.n ? b[k * args.row + n * args.column] : 0.0f;
  };
  if (args.column == 1) {
    for (int k = 0; k < args.k; ++k) {
      for (int n = 0; n < width; n += kLine) {
        __builtin_prefetch(b + (k + kAhead < args.k ? k + kAhead : k) * args.row + n);
      }
      for (int n = 0; n < width; ++n) element(k, n);
    }
    return;
  }
  for (int k0 = 0; k0 < args.k; k0 += kLine) {
    const int k_end = k0 + kLine < args.k ? k0 + kLine : args.k;
    for (int n = 0; n < width; n += 4) {
      const bool whole = args.row == 1 && begin + n + 4 <= n_end;
      if (whole && k_end < args.k) {
        for (int j = 0; j < 4; ++j) __builtin_prefetch(b + (n + j) * args.column + k_end);
      }
      for (int k = k0; k < k_end; k += 4) {
        if (whole && k + 4 <= k_end) {
          transpose(b + n * args.column + k, args.column, packed + long{k} * width + n, width);
          continue;
        }
        for (int i = k; i < k_end && i < k + 4; ++i) {
          for (int j = n; j < n + 4; ++j) element(i, j);
        }
      }
    }
  }
}

inline const float* at(const float* p, int i) { return p ? p + i : nullptr; }
inline float* at(float* p, int i) { return p ? p + i : nullptr; }

// Spreads what is to be fetched over the product's iterations. Nothing to fetch is a line that is
// there: fetching an unmapped address walks the page tables every time.
inline void look_ahead(const Ahead (&ahead)[2], const float* there, long iterations, Block& block) {
  for (int i = 0; i < 2; ++i) {
    block.ahead[i] = static_cast<const char*>(ahead[i].bytes ? ahead[i].begin : there);
    block.step[i] = (ahead[i].bytes + iterations - 1) / iterations;
  }
}

void multiply(const Multiply& args) {
  const int panels = kPanels.count(args.n);
  Block block{};
  block.k = args.k;
  block.lda = args.lda;
  block.ldc = args.ldc;
  look_ahead(args.ahead, args.a, long{(args.m + kRows - 1) / kRows} * panels * args.k, block);
  for (int p = 0; p < panels; ++p) {
    const int begin = kPanels.begin(args.n, p), width = kPanels.begin(args.n, p + 1) - begin;
    block.a = args.a;
    block.b = args.b + static_cast<long>(args.k) * begin;
    block.ldb = width;
    block.bias = at(args.bias, begin);
    block.c = args.c + begin;
    block.sums = {args.sums.start, at(args.sums.pivot, begin), at(args.sums.sum, begin),
                  at(args.sums.square, begin)};
    if (args.sums.pivot) {
      panel_of_width<Order::rows, Store::overwrite_and_sum>(width, args.m, block);
    } else if (args.how == Write::accumulate) {
      panel_of_width<Order::rows, Store::accumulate>(width, args.m, block);
    } else {
      panel_of_width<Order::rows, Store::overwrite>(width, args.m, block);
    }
  }
}

void multiply_transposed(const MultiplyTransposed& args) {
  const int panels = kPanels.count(args.n);
  Block block{};
  block.k = args.rows;
  block.lda = args.lda;
  block.ldb = args.ldb;
  block.ldc = args.ldc;
  look_ahead(args.ahead, args.a, long{(args.m + kRows - 1) / kRows} * panels * args.rows, block);
  for (int p = 0; p < panels; ++p) {
    const int begin = kPanels.begin(args.n, p), width = kPanels.begin(args.n, p + 1) - begin;
    block.a = args.a;
    block.b = args.b + begin;
    block.c = args.c + begin;
    if (args.how == Write::overwrite) {
      panel_of_width<Order::columns, Store::overwrite>(width, args.m, block);
    } else {
      panel_of_width<Order::columns, Store::accumulate>(width, args.m, block);
    }
  }
}

void finish(const Multiply& args) {
  for_channels(args.n, [&](int i, auto part) {
    const Vec bias = args.bias ? load(args.bias + i, part) : Vec{};
    Vec pivot = {}, sum = {}, square = {};
    if (args.sums.pivot) {
      if (args.sums.start) store(args.sums.pivot + i, load(args.c + i, part) + bias, part);
      pivot = load(args.sums.pivot + i, part);
    }
    for (int r = 0; r < args.m; ++r) {
      float* c = args.c + r * args.ldc + i;
      const Vec y = load(c, part) + bias, d = y - pivot;
      sum += d;
      square += d * d;
      if (args.bias) store(c, y, part);
    }
    if (args.sums.pivot) {
      const bool start = args.sums.start;
      store(args.sums.sum + i, start ? sum : load(args.sums.sum + i, part) + sum, part);
      store(args.sums.square + i, start ? square : load(args.sums.square + i, part) + square, part);
    }
  });
}

}  // namespace

extern const GemmLoops gemm_loops = {kPanels, pack, multiply, multiply_transposed, finish};

}  // namespace tunas::kernels::cpu::TUNAS_ISA
