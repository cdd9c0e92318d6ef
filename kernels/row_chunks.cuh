// How the blocks of pointwise backward share rows: in groups (the images of a gated source, whose
// sums are wanted one by one; else all rows are one), each cut into chunks of whole tiles. A block
// takes every step-th chunk, tile by tile.
#pragma once

#include "kernels/source.h"
#include "kernels/vendor/cuda.h"

namespace tunas::kernels::cuda {

struct RowTile {
  int chunk, row, end;  // its rows: at most a tile's from `row`, of a chunk that ends at `end`
};

/// `groups` of `group_rows`, each in chunks of `each` rows.
struct RowChunks {
  int group_rows, groups, each;

  __host__ __device__ int parts() const { return (group_rows + each - 1) / each; }
  __host__ __device__ int count() const { return groups * parts(); }
  __device__ RowTile first_of(int chunk) const {
    const int group = chunk / parts();
    const int begin = group * group_rows + (chunk - group * parts()) * each;
    const int end = begin + each, limit = (group + 1) * group_rows;
    return {chunk, begin, end < limit ? end : limit};
  }
  /// The tile a block takes after `tile`; its chunk is count() or more when there is none.
  __device__ RowTile after(const RowTile& tile, int tile_rows, int step) const {
    if (tile.row + tile_rows < tile.end) return {tile.chunk, tile.row + tile_rows, tile.end};
    return first_of(tile.chunk + step);
  }
};

/// Chunks of whole tiles, enough for about `blocks` blocks.
inline RowChunks cut_chunks(const Source& x, int tile_rows, int blocks) {
  const int groups = x.gate ? x.y.n : 1, rows = static_cast<int>(x.y.rows()) / groups;
  const int tiles = ceil_div(rows, tile_rows);
  return {rows, groups, ceil_div(tiles, larger(ceil_div(blocks, groups), 1)) * tile_rows};
}

}  // namespace tunas::kernels::cuda
