#include "kernels/pointwise_tiles.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels::cpu {

int tile_rows(long bytes, long floats_per_row) {
  return static_cast<int>(std::clamp(bytes / (4 * floats_per_row), long{kStripRows}, 1024L));
}

void PackedBlocks::pack(CpuContext& context, const GemmLoops& gemm) const {
  const int panels = gemm.panels.count(blocks.width);
  parallel(context, blocks.count * panels, [&](long index, int) {
    const int i = static_cast<int>(index);
    const int begin = blocks.begin(i / panels);
    Pack part = all;
    part.b += begin * all.column;
    part.n = std::min(all.n - begin, blocks.size(i / panels));
    part.packed += static_cast<long>(all.k) * begin;
    if (i % panels < gemm.panels.count(part.n)) gemm.pack(part, i % panels);
  });
}

Strips::Strips(const Tensor& x, bool images, const Tiles::Tile& tile)
    : image_(images ? static_cast<long>(x.h) * x.w : x.rows()),
      at_(tile.begin),
      end_(tile.begin + tile.rows) {}

bool Strips::next(Strip& strip) {
  const long image = at_ / image_, within = at_ % image_;
  const long left = std::min(end_, (image + 1) * image_) - at_;
  const long strips = (left + kStripRows - 1) / kStripRows;
  if (left <= 0) return false;
  const long rows =
      std::min<long>(left, round_up_8(static_cast<int>((left + strips - 1) / strips)));
  strip = {at_, static_cast<int>(rows), image, within == 0};
  at_ += rows;
  return true;
}

bool is_plain(const Source& x) { return !x.scale && !x.gate && x.act == Act::none; }

LoadSource load_strip(const Source& x, const Strips::Strip& strip, int begin, int c, float* u) {
  LoadSource load;
  load.rows = strip.rows;
  load.c = c;
  load.y = x.y.f32() + strip.begin * x.y.c + begin;
  load.ldy = x.y.c;
  load.scale = x.scale ? x.scale + begin : nullptr;
  load.shift = x.shift ? x.shift + begin : nullptr;
  load.act = x.act;
  load.gate = x.gate ? x.gate + strip.image * x.y.c + begin : nullptr;
  load.u = u;
  return load;
}

Ahead rows_ahead(const Tensor& t, long begin, int rows) {
  const long end = std::min(begin + rows, t.rows());
  begin = std::min(begin, end);
  if (!t) return {};
  return {t.f32() + begin * t.c, (end - begin) * t.c * static_cast<long>(sizeof(float))};
}

void check_pointwise(const char* kernel, const Source& x, const Filter& w) {
  check_shape(kernel, "x", x.y, x.y.n, x.y.h, x.y.w, w.in.now);
  require(x.y.rows() > 0 && x.y.c > 0 && x.y.c % 8 == 0, kernel, ": x is ", shape_of(x.y),
          "; rows and channels must be positive, channels a multiple of 8");
  require(!x.scale == !x.shift, kernel, ": scale and shift of x go together");
  require(w.data && w.type == DType::f32 && w.k == 1, kernel, ": w must be an fp32 1x1 filter");
  require(0 < w.out.now && w.out.now <= w.out.max && w.in.now <= w.in.max, kernel, ": w uses ",
          w.out.now, " x ", w.in.now, " of ", w.out.max, " x ", w.in.max);
}

}  // namespace tunas::kernels::cpu
