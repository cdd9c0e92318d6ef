// Backward through an activation, tile by tile; formula in act_grad.h. Tiles leave their sums in
// the workspace, which are added in tile order.
#include "kernels/act_grad.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/mix_loops.h"
#include "kernels/parallel.h"
#include "kernels/tiles.h"

namespace tunas::kernels::cpu {
namespace {

constexpr long kTileFloats = 64 << 10;

constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }

void check(const ActGrad& args) {
  const Tensor& y = args.x.y;
  check_same_shape(args.kernel, "dx", args.dx.dz, y);
  refuse_addend(args.kernel, args.dx);
  if (args.da) check_same_shape(args.kernel, "the gradient", args.da, y);
  if (args.constant) check_shape(args.kernel, "dy", args.constant, y.n, 1, 1, y.c);
  require(y.c % 8 == 0, args.kernel, ": width ", y.c, " is not a multiple of 8");
  require(!args.x.scale == !args.x.shift, args.kernel, ": pass both scale and shift or neither");
  if (args.x.act != Act::none || args.dx.mean) check_same_shape(args.kernel, "x", y, args.dx.dz);
}

}  // namespace

void act_grad(CpuContext& context, const ActGrad& args) {
  check(args);
  const int c = args.x.y.c;
  const SourceGrad& dx = args.dx;
  const MixLoops& loops = mix_loops();
  // Tiles: pieces of an image where there is a constant per image, else of all rows.
  const long runs = args.constant ? args.x.y.n : 1, run = args.x.y.rows() / runs;
  const long pieces = ceil_div(run * c, kTileFloats), rows = ceil_div(run, pieces);
  const long tiles = runs * pieces, partial_size = whole_lines(2 * c);
  float* partial = Workspace(context, args.kernel).take(tiles * partial_size);
  parallel(context, tiles, [&](long t, int) {
    const long image = t / pieces, first = t % pieces * rows;
    const long at = (image * run + first) * c;
    float* sums = partial + t * partial_size;
    std::fill(sums, sums + 2 * c, 0.0f);
    loops.act_grad({.rows = std::clamp(run - first, 0L, rows),
                    .c = c,
                    .weight = args.weight,
                    .da = args.da ? args.da.f32() + at : nullptr,
                    .share = args.share,
                    .constant = args.constant ? args.constant.f32() + image * c : nullptr,
                    .y = args.x.y.f32() + at,
                    .scale = args.x.scale,
                    .shift = args.x.shift,
                    .act = args.x.act,
                    .mean = dx.mean,
                    .how = dx.how,
                    .dz = dx.dz.f32() + at,
                    .sum_dz = sums,
                    .sum_dz_centred = sums + c});
  });
  add_source_sums(dx, partial, static_cast<int>(tiles), partial_size, c);
}

}  // namespace tunas::kernels::cpu
