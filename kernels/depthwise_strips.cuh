// What the two depthwise kernels share: strips. A thread owns kChannels neighbouring channels and
// walks down a strip of kColumns columns and at most kStripRows rows of one image; the next rows
// are loaded while the present ones are computed on. Neighbouring threads own neighbouring
// channels, so a warp reads runs of up to 128 bytes; halo columns come from the first-level cache.
#pragma once

#include "kernels/depthwise.cuh"
#include "kernels/reduce.cuh"

namespace tunas::kernels {

inline constexpr int kStripRows = 14, kStripThreads = 128, kStripBlocks = 2112;

/// Strips of `rows` x `columns` over the [height][width] of every image; blocks take them in turn.
struct Strips {
  Cut cut;
  int across, down, rows, height, sets, chunks;  // a set: one strip a slot
  int count;

  Shape shape() const { return {dim3(cut.groups, chunks), dim3(cut.threads())}; }
};

inline Strips cut_strips(int n, int height, int width, int c, int channels, int columns) {
  Strips s{};
  s.cut = cut_channels(c, channels, kStripThreads);
  s.height = height;
  s.across = ceil_div(width, columns);
  s.down = ceil_div(height, kStripRows);
  s.rows = ceil_div(height, s.down);
  s.count = n * s.across * s.down;
  s.sets = ceil_div(s.count, s.cut.slots);
  s.chunks = s.cut.chunks(s.count, kStripBlocks);
  return s;
}

/// Where a thread stands: its lane and slot, and the strip it is on.
struct StripPlace {
  int lane, slot, channel;
  bool idle;

  __device__ StripPlace(const Strips& s, int channels, int c) {
    slot = static_cast<int>(threadIdx.x) / s.cut.lanes;
    lane = static_cast<int>(threadIdx.x) - slot * s.cut.lanes;
    channel = (static_cast<int>(blockIdx.x) * s.cut.lanes + lane) * channels;
    idle = channel >= c;
    if (idle) channel = 0;
  }
};

/// Calls walk(image, first row, end row, column strip) for each strip of this thread.
template <class Walk>
__device__ inline void each_strip(const Strips& s, const StripPlace& place, const Walk& walk) {
  if (place.idle) return;
  for (int set = static_cast<int>(blockIdx.y); set < s.sets; set += s.chunks) {
    const int strip = set * s.cut.slots + place.slot;
    if (strip >= s.count) return;
    const int above = strip / s.across, column = strip - above * s.across;
    const int image = above / s.down, part = above - image * s.down;
    const int begin = part * s.rows;
    const int end = begin + s.rows < s.height ? begin + s.rows : s.height;
    walk(image, begin, end, column);
  }
}

}  // namespace tunas::kernels
