// Matrix products on tiles that lie in L2, called from the kernels' own parallel loops.
//
//   multiply             c[m][n] (+)= sum_k a[m][k] * b[k][n] (+ bias[n])  forward, dgrad
//   multiply_transposed  c[m][n] (+)= sum_r a[r][m] * b[r][n]              wgrad
//
// n is a multiple of 8, m and k are any size. Sums run over k (or r) in order, so an element does
// not depend on the tile it is computed in. b of `multiply` is packed: panels of columns, each
// [k][width], one after the other; panel p starts at column begin(n, p), that is at b + k*begin.
#pragma once

#include "kernels/isa.h"
#include "kernels/types.h"

namespace tunas::kernels::cpu {

/// b[k][n] with any strides; columns from n to round_up_8(n) are packed as zero.
struct Pack {
  const float* b = nullptr;
  long row = 0, column = 1;
  int k = 0, n = 0;
  float* packed = nullptr;
};

/// Memory that the tiles to come will read: fetched into L2 line by line between the multiply-adds.
struct Ahead {
  const void* begin = nullptr;
  long bytes = 0;
};

/// What the moments of a tile are made of: per column the pivot, one of the tile's values, and the
/// sums of y - pivot and (y - pivot)^2. `start` takes the first row as pivot.
struct ColumnSums {
  bool start = false;
  float* pivot = nullptr;  // [n]; null: not wanted
  float* sum = nullptr;
  float* square = nullptr;
};

struct Multiply {
  int m = 0, n = 0, k = 0;
  const float* a = nullptr;  // [m][lda]
  long lda = 0;
  const float* b = nullptr;     // packed
  const float* bias = nullptr;  // [n]; null: none
  float* c = nullptr;           // [m][ldc]
  long ldc = 0;
  ColumnSums sums;  // of what is overwritten
  Ahead ahead[2];
  Write how = Write::overwrite;
};

struct MultiplyTransposed {
  int m = 0, n = 0, rows = 0;
  const float* a = nullptr;  // [rows][lda]
  long lda = 0;
  const float* b = nullptr;  // [rows][ldb]
  long ldb = 0;
  Write how = Write::overwrite;
  float* c = nullptr;  // [m][ldc]
  long ldc = 0;
  Ahead ahead[2];
};

/// Columns are cut into panels of `units` or fewer units, as even as possible.
struct Panels {
  int unit = 0, units = 0;

  int count(int n) const { return ((n + unit - 1) / unit + units - 1) / units; }
  int begin(int n, int p) const {
    const int at = (n + unit - 1) / unit * p / count(n) * unit;
    return at < n ? at : (n + 7) / 8 * 8;
  }
};

struct GemmLoops {
  Panels panels;
  void (*pack)(const Pack& args, int panel);
  void (*multiply)(const Multiply& args);
  void (*multiply_transposed)(const MultiplyTransposed& args);
  /// Bias and sums of a product that lies in c without them; of our own loops only, for the twin.
  void (*finish)(const Multiply& args);
};

TUNAS_PER_ISA(GemmLoops, gemm_loops);

}  // namespace tunas::kernels::cpu
