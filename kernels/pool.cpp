// Global average pooling on the CPU. An image's pixels are added in their order, in blocks of
// channels: enough blocks to share out, each wide enough to read memory in stretches.
#include "kernels/pool.h"

#include <algorithm>

#include "kernels/act_grad.h"
#include "kernels/check.h"
#include "kernels/mix_loops.h"
#include "kernels/parallel.h"
#include "kernels/tiles.h"

namespace tunas::kernels {

Cost cost(const PoolForward& args) {
  const double slopes = args.slope_sums ? 2.0 * static_cast<double>(args.y.size()) : 0;
  return {(args.slope_sums ? 8.0 : 4.0) * static_cast<double>(args.x.y.size()), bytes_of(args.x.y),
          bytes_of(args.y) + sizeof(float) * slopes};
}

Cost cost(const PoolBackward& args) {
  const double dz = bytes_of(args.dx.dz);
  if (dz == 0) return {};
  const bool adds = args.dx.how == Write::accumulate && args.partial.data != args.dx.dz.data;
  const bool needs_y = args.x.act != Act::none || args.dx.mean;
  return {8.0 * static_cast<double>(args.dx.dz.size()),
          bytes_of(args.dy) + bytes_of(args.partial) + (needs_y ? bytes_of(args.x.y) : 0) +
              (adds ? dz : 0),
          dz};
}

namespace cpu {

void pool(CpuContext& context, const PoolForward& args) {
  constexpr int kTiles = 32;
  const Tensor& y = args.x.y;
  check_shape("pool", "x", y, y.n, y.h, y.w, y.c);
  check_shape("pool", "y", args.y, y.n, 1, 1, y.c);
  require(y.c % 8 == 0, "pool: width ", y.c, " is not a multiple of 8");
  require(!args.x.scale == !args.x.shift, "pool: pass both scale and shift or neither");
  require(args.mean || !args.slope_sums, "pool: slope sums need the mean of the normalisation");
  const MixLoops& loops = mix_loops();
  const long pixels = static_cast<long>(y.h) * y.w;
  const Blocks blocks(y.c, std::max(kTiles / y.n, 1));
  parallel(context, long{y.n} * blocks.count, [&](long tile, int) {
    const long n = tile / blocks.count;
    const int block = static_cast<int>(tile % blocks.count);
    const int c0 = blocks.begin(block), c = blocks.size(block);
    SumActRows rows{.rows = pixels,
                    .c = c,
                    .stride = y.c,
                    .y = y.f32() + n * pixels * y.c + c0,
                    .scale = args.x.scale ? args.x.scale + c0 : nullptr,
                    .shift = args.x.scale ? args.x.shift + c0 : nullptr,
                    .act = args.x.act,
                    .sum = args.y.f32() + n * y.c + c0};
    float* sum = rows.sum;
    std::fill(sum, sum + c, 0.0f);
    if (args.slope_sums) {
      rows.mean = args.mean + c0;
      rows.slope_sum = args.slope_sums + n * y.c + c0;
      rows.slope_sum_centred = rows.slope_sum + args.y.size();
      std::fill(rows.slope_sum, rows.slope_sum + c, 0.0f);
      std::fill(rows.slope_sum_centred, rows.slope_sum_centred + c, 0.0f);
    }
    loops.sum_act(rows);
    for (int i = 0; i < c; ++i) sum[i] /= static_cast<float>(pixels);
  });
}

void pool_backward(CpuContext& context, const PoolBackward& args) {
  if (!args.dx.dz) return;
  require(args.dy.data, "pool_backward: dy has no memory; pass a tensor");
  ActGrad grad{.kernel = "pool_backward",
               .da = args.partial,
               .constant = args.dy,
               .share = 1.0f / static_cast<float>(args.x.y.h * args.x.y.w),
               .x = args.x,
               .dx = args.dx};
  if (args.partial.data == args.dx.dz.data) grad.dx.how = Write::overwrite;
  act_grad(context, grad);
}

}  // namespace cpu
}  // namespace tunas::kernels
