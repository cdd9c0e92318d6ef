// The cut of a depthwise problem and the pieces both passes share; what they are is in the header.
#include "kernels/depthwise_tiles.h"

#include <algorithm>

#include "kernels/check.h"

namespace tunas::kernels::cpu {
namespace {

constexpr int kTiles = 32;                                   // enough to share out
constexpr int kGroup = 256;                                  // channels of a tile at most
constexpr long kRingFloats = 48 << 10;                       // a part of L2
constexpr std::size_t kStreamBytes = std::size_t{16} << 20;  // about half of a last-level cache

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

DepthwisePlan::DepthwisePlan(int n, int height, int c, long columns)
    : n_(n), height_(height), c_(c) {
  const int fit = static_cast<int>(std::min<long>(kGroup, kRingFloats / columns / 16 * 16));
  channels_ = ceil_div(ceil_div(c, ceil_div(c, std::max(fit, 16))), 16) * 16;
  groups_ = ceil_div(c, channels_);
  images_ = std::clamp(n * groups_ / kTiles, 1, n);
  chunks_ = ceil_div(n, images_);
  const int bands = std::clamp(ceil_div(kTiles, groups_ * chunks_), 1, ceil_div(height, 8));
  rows_ = ceil_div(height, bands);
  bands_ = ceil_div(height, rows_);
}

DepthwiseTile DepthwisePlan::operator[](int tile) const {
  const int slot = tile / groups_, c0 = tile % groups_ * channels_;
  const int n0 = slot / bands_ * images_, row0 = slot % bands_ * rows_;
  return {slot,
          c0,
          std::min(channels_, c_ - c0),
          n0,
          std::min(n_, n0 + images_),
          row0,
          std::min(height_, row0 + rows_)};
}

DepthwiseRing::DepthwiseRing(int rows, int before, int columns, int channels, int lanes)
    : rows(rows),
      before(static_cast<long>(before) * lanes),
      block(static_cast<long>(columns) * lanes),
      row(block * ceil_div(channels, lanes)) {}

bool streams_past_caches(const Tensor& out) { return out.bytes() >= kStreamBytes; }

float* filled(Workspace& workspace, long count, float value) {
  float* array = workspace.take(count);
  std::fill(array, array + count, value);
  return array;
}

Source with_channels(Workspace& workspace, Source x) {
  if (x.scale) return x;
  x.scale = filled(workspace, x.y.c, 1);
  x.shift = filled(workspace, x.y.c, 0);
  return x;
}

void pack_weights(const Filter& w, long block, int lanes, float* packed) {
  const long c = block * lanes;
  const int taps = w.k * w.k;
  const long present = std::clamp<long>(w.in.now - c, 0, lanes);
  for (int tap = 0; tap < taps; ++tap) {
    const float* from = w.f32() + static_cast<long>(tap) * w.in.max + c;
    float* to = packed + c * taps + tap * lanes;
    std::fill(std::copy(from, from + present, to), to + lanes, 0.0f);
  }
}

void check_depthwise(const DepthwiseShapes& call) {
  const char* const kernel = call.kernel;
  const Tensor& y = call.y;
  const Source& x = call.x;
  const Filter& w = call.w;
  const int top = call.top, left = call.left, stride = call.stride;
  require(y.n == x.y.n && y.c == x.y.c && y.c == w.in.now, kernel, ": x is ", shape_of(x.y), ", y ",
          shape_of(y), " and the filter ", w.in.now, " wide; images and channels must be the same");
  require(w.data && w.type == DType::f32 && w.in.now <= w.in.max && w.in.now % 8 == 0, kernel,
          ": filter of width ", w.in.now, "/", w.in.max, "; pass fp32 with a multiple of 8");
  require(w.k == 3 || w.k == 5 || w.k == 7, kernel, ": k is ", w.k, "; it must be 3, 5 or 7");
  require(stride == 1 || stride == 2, kernel, ": stride is ", stride, "; it must be 1 or 2");
  const auto meets = [&](int before, int in, int out) {
    return before >= 0 && before < w.k && out > 0 && (out - 1) * stride - before < in;
  };
  require(meets(top, x.y.h, y.h) && meets(left, x.y.w, y.w), kernel, ": ", shape_of(x.y), " to ",
          shape_of(y), " with ", top, " rows and ", left,
          " columns of zeros before: a window would lie outside the image");
  require(!x.gate, kernel, ": x is gated; a gate belongs behind the depthwise convolution");
  require(!x.scale == !x.shift, kernel, ": pass both scale and shift or neither");
}

}  // namespace tunas::kernels::cpu
