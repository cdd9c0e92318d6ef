// What the pointwise convolution's forward and backward pass share: how a source's tile is loaded,
// how the weights are packed, and what is fetched ahead.
//
// A tile is worked off in strips, so that what is loaded, multiplied and stored stays in L1 and L2,
// and while a strip is multiplied the memory of a later one is fetched: without that a core either
// computes or waits for memory, with it twice as fast at the widths of the first blocks.
#pragma once

#include "kernels/gemm_loops.h"
#include "kernels/pointwise_loops.h"
#include "kernels/tiles.h"

namespace tunas::kernels::cpu {

/// Tasks are runs of consecutive tiles, so that a thread can look ahead: at most kMaxChunks runs;
/// few rows are cut by columns as well, until there are kMinTasks of them.
inline constexpr long kMaxChunks = 16;
inline constexpr long kMinTasks = 8;
inline constexpr int kStripRows = 64;

/// Rows of a tile of about `bytes`, within reason.
int tile_rows(long bytes, long floats_per_row);

/// B of a product, packed block by block of columns.
struct PackedBlocks {
  const Blocks& blocks;
  Pack all;  // of the whole matrix

  const float* operator[](int block) const {
    return all.packed + static_cast<long>(all.k) * blocks.begin(block);
  }
  /// Work sharing inside a parallel region.
  void pack(CpuContext& context, const GemmLoops& gemm) const;
};

/// The rows of a tile in strips of at most kStripRows rows, with `images` none of them over two.
class Strips {
 public:
  struct Strip {
    long begin = 0;
    int rows = 0;
    long image = 0;      // 0 without `images`
    bool first = false;  // of its image
  };

  Strips(const Tensor& x, bool images, const Tiles::Tile& tile);
  /// False after the last one.
  bool next(Strip& strip);

 private:
  long image_;  // rows
  long at_, end_;
};

/// u = x: nothing to be done on load.
bool is_plain(const Source& x);

/// u of columns [begin, begin + c) of the strip.
LoadSource load_strip(const Source& x, const Strips::Strip& strip, int begin, int c, float* u);

/// Rows of t, as far as there are any.
Ahead rows_ahead(const Tensor& t, long begin, int rows);

/// Throws Error(usage) unless x and w fit together.
void check_pointwise(const char* kernel, const Source& x, const Filter& w);

}  // namespace tunas::kernels::cpu
