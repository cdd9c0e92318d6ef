// How the CPU kernels cut rows into tiles and put partial results together again. Everything
// follows from shapes, nothing from the number of threads; what tiles and chunks leave is added in
// their order, so that every result has the same bits for any number of threads.
#pragma once

#include <cstddef>

#include "kernels/source.h"
#include "kernels/stream.h"

namespace tunas::kernels::cpu {

/// Hands out pieces of the workspace, aligned to cache lines, until it ends.
class Workspace {
 public:
  Workspace(const CpuContext& context, const char* kernel);

  /// Throws Error(memory) when the workspace is too small.
  float* take(long floats);

 private:
  const char* kernel_;
  char* next_;
  char* end_;
};

/// Rows in tiles of about equal size. With `images`, a tile is a number of whole images or a part
/// of one.
struct Tiles {
  struct Tile {
    long begin = 0;
    int rows = 0;
  };

  long runs = 0, run = 0;  // rows come in `runs` runs of `run` rows
  int rows = 0;            // of a tile, at most
  long per_run = 0;

  Tiles(const Tensor& t, int wanted_rows, bool images);

  long count() const { return runs * per_run; }
  Tile operator[](long tile) const;
};

/// Columns in blocks of equal width, a multiple of 16 but for the last.
struct Blocks {
  int columns = 0, width = 0, count = 0;

  Blocks(int columns, int wanted_blocks);

  int begin(int block) const { return block * width; }
  int size(int block) const;
};

/// Floats of one thread's buffer, rounded so that threads share no cache line.
inline long whole_lines(long floats) { return (floats + 15) / 16 * 16; }

/// Begin of part i of n parts of `total`.
inline long part_begin(long total, long i, long n) { return total * i / n; }

/// Mean and variance of channels [begin, end) from the tiles' (mean, M2): partial[tile][3][c], the
/// third row not read.
void merge_moments(const Tiles& tiles, const float* partial, int c, int begin, int end,
                   const Moments& moments);

/// sum[i] = or += factor[i] * (partial[0][i] + partial[stride][i] + ...); factor null: 1.
struct AddChunks {
  int chunks = 0;
  long stride = 0;
  const float* partial = nullptr;
  int begin = 0, end = 0;
  const float* factor = nullptr;
  Write how = Write::accumulate;
  float* sum = nullptr;
};
void add_chunks(const AddChunks& args);

/// The two sums of a SourceGrad whose partials are [chunks][stride], of them [2][c]. Nothing where
/// no sums are wanted.
void add_source_sums(const SourceGrad& grad, const float* partial, int chunks, long stride, int c);

/// Row `o` of a weight gradient: dw += the chunks' sums + decay*w, for columns [0, c).
struct AddWeightGrad {
  int chunks = 0;
  long stride = 0;
  const float* partial = nullptr;
  int c = 0;
  float decay = 0;
  const float* w = nullptr;
  float* dw = nullptr;
};
void add_weight_grad(const AddWeightGrad& args);

}  // namespace tunas::kernels::cpu
