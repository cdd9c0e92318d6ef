// How the depthwise kernels cut their work on the CPU, and what both passes share.
//
// A tile is a group of channels of a band of rows of a few images; the cut depends on the shape
// only. A tile streams through its rows once; the rows a window needs lie in a ring of buffers that
// stays in the caches. Bands load k - stride rows of their neighbours again; they are cut only
// where images and groups are too few to share out.
#pragma once

#include "kernels/depthwise.h"
#include "kernels/depthwise_loops.h"
#include "kernels/tiles.h"

namespace tunas::kernels::cpu {

struct DepthwiseTile {
  int slot;        // which images and rows: the place of its partial sums
  int c0, c;       // channels
  int n0, n1;      // images
  int row0, row1;  // rows
};

/// Groups of `channels`, chunks of `images`, bands of `rows` of an [n][height] x c problem. Partial
/// sums are [slot][padded], all groups side by side.
class DepthwisePlan {
 public:
  /// `columns`: of the ring of a tile, all rows together.
  DepthwisePlan(int n, int height, int c, long columns);

  int groups() const { return groups_; }
  int tiles() const { return groups_ * slots(); }
  int slots() const { return chunks_ * bands_; }
  int channels() const { return channels_; }
  int padded() const { return groups_ * channels_; }
  DepthwiseTile operator[](int tile) const;

 private:
  int n_, height_, c_;
  int channels_, groups_;
  int images_, chunks_;
  int rows_, bands_;
};

/// Row buffers, blocked as depthwise_loops.h says; row h lies in slot h % rows. Columns outside the
/// image are never written: they stay zero.
struct DepthwiseRing {
  int rows = 0;
  long before = 0;  // floats before column 0
  long block = 0;
  long row = 0;

  DepthwiseRing(int rows, int before, int columns, int channels, int lanes);

  long floats() const { return rows * row; }
  float* at(float* base, int h) const { return base + h % rows * row + before; }
};

/// First float of row h of image n; h may lie in the next image.
inline long row_offset(const Tensor& t, int n, int h) {
  return (static_cast<long>(n) * t.h + h) * t.w * t.c;
}

/// Whether rows of `out` are written past the caches: a large tensor would only push out others.
bool streams_past_caches(const Tensor& out);

/// Array of `count` times `value`.
float* filled(Workspace& workspace, long count, float value);

/// x with ones and zeros in place of absent scale and shift.
Source with_channels(Workspace& workspace, Source x);

/// One block of [k][k][c.max] -> packed[block][k*k][lanes]; absent channels are 0.
void pack_weights(const Filter& w, long block, int lanes, float* packed);

/// What both passes are called with.
struct DepthwiseShapes {
  const char* kernel;
  const Source& x;
  const Filter& w;
  int stride, top, left;
  const Tensor& y;  // or its gradient
};

/// Throws Error(usage) unless a k x k window from (-top, -left) leads from x to y, whether or not
/// they have memory.
void check_depthwise(const DepthwiseShapes& call);

}  // namespace tunas::kernels::cpu
