// Rows of the depthwise convolution, compiled once per instruction set.
//
// A tile works on a group of channels. Rows it reuses lie in buffers of its own, blocked by vector:
// [block][column][lanes] with lanes channels to a block, so that everything a k x k window needs
// for one block is contiguous and in L1. `c` channels are used, a multiple of 8; the last block of
// 16 lanes may be half used, its other half holds finite numbers nobody reads. Weights and their
// gradient are packed the same way: [block][k*k][lanes].
#pragma once

#include "kernels/isa.h"
#include "kernels/types.h"

namespace tunas::kernels::cpu {

inline constexpr int kMaxFilter = 7;

/// Pixels of one image row in memory: `w` of them, `stride` floats apart, `c` channels each.
struct RowShape {
  int w = 0;
  int c = 0;
  long stride = 0;
};

/// Rows that are wanted soon, of the shape of the row at hand: fetched in step with its arithmetic.
struct RowsAhead {
  static constexpr int kMax = 5;
  const float* at[kMax] = {};
  int count = 0;

  void add(const float* row) { at[count++] = row; }
};

/// out = act(scale*y + shift)
struct SourceRow {
  RowShape shape;
  const float* y = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  float* out = nullptr;  // first column of block 0
  long block = 0;        // floats from block to block
  RowsAhead ahead;
};

/// out = ca*dz + cb*y + cc, or dz where ca is null. With a scale dz, which then is the gradient of
/// an activated value, is replaced by (weight*dz + spread)*act'(scale*y + shift).
struct IncomingRow {
  RowShape shape;
  const float* dz = nullptr;
  const float* y = nullptr;
  const float* ca = nullptr;
  const float* cb = nullptr;
  const float* cc = nullptr;
  float weight = 1;
  const float* spread = nullptr;  // of the row's image; null: 0
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  float* out = nullptr;
  long block = 0;
};

/// One output row from the input rows u[0..rows), which meet filter rows first, first + 1, ...
/// and its moments: (mean, m2) of `count` values a channel become those of count + shape.w.
struct ForwardRow {
  RowShape shape;
  int rows = 0;
  int first = 0;
  const float* u[kMaxFilter] = {};  // at the padded column that the window of output 0 starts with
  long block = 0;
  const float* weights = nullptr;
  float* y = nullptr;
  bool streamed = false;  // past the caches, where y is aligned and the instructions exist
  float count = 0;
  float* mean = nullptr;
  float* m2 = nullptr;
  RowsAhead ahead;
};

/// One input row x: dw += dy*u and du from the rows of dy that read it; dy[r] meets filter row
/// first + r*stride. Then, unless dz is null,
///   dz (+)= (du + weight*addend)*act'(z), sum_dz += dz, sum_dz_centred += dz*(x - mean)
///                                                                          z = scale*x + shift
struct BackwardRow {
  RowShape shape;
  int left = 0;
  int rows = 0;
  int first = 0;
  const float* dy[kMaxFilter] = {};  // at output column 0
  long block = 0;
  const float* weights = nullptr;
  float* dw = nullptr;
  const float* x = nullptr;
  long x_stride = 0;
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  Write how = Write::overwrite;
  float* dz = nullptr;
  bool streamed = false;          // as in ForwardRow
  const float* addend = nullptr;  // null: 0; may be dz
  float weight = 1;
  const float* mean = nullptr;
  float* sum_dz = nullptr;
  float* sum_dz_centred = nullptr;
  RowsAhead ahead;
};

struct DepthwiseLoops {
  int lanes;
  void (*source)(const SourceRow&);
  void (*incoming)(const IncomingRow&);
  void (*forward[3][2])(const ForwardRow&);    // [k/2 - 1][stride - 1]
  void (*backward[3][2])(const BackwardRow&);  // [k/2 - 1][stride - 1]
};

TUNAS_PER_ISA(DepthwiseLoops, depthwise_loops);

}  // namespace tunas::kernels::cpu
