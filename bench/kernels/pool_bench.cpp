// Global pooling at the squeezes and the head of MobileNetV3-Large, 224 px, batch 16; `gate`: the
// backward of a squeeze, which finishes in place what the gated reader left. Beside them what takes
// the place of backward: forward with the sums of slopes, and spread.
#include "kernels/pool.h"

#include "bench/kernels/problems.h"
#include "kernels/spread.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Pool {
  Floats x, y, dy, dz, channels, images;
  PoolForward forward, slopes;
  PoolBackward backward;
  Spread spread;

  explicit Pool(const Problem& p)
      : x(p.rows() * p.c.now),
        y(long{p.n} * p.c.now),
        dy(long{p.n} * p.c.now),
        dz(p.rows() * p.c.now),
        channels(6L * p.c.now),
        images(5L * p.n * p.c.now) {
    const auto channel = [&](int i) { return channels.get() + long{i} * p.c.now; };
    forward.x = {{x.get(), DType::f32, p.n, p.h, p.w, p.c.now}, channel(0), channel(1), p.act};
    forward.y = {y.get(), DType::f32, p.n, 1, 1, p.c.now};
    backward.dy = forward.y;
    backward.dy.data = dy.get();
    backward.x = forward.x;
    backward.dx.dz = forward.x.y;
    backward.dx.dz.data = dz.get();
    backward.dx.mean = channel(2);
    backward.dx.inv_std = channel(3);
    backward.dx.sum_dz = channel(4);
    backward.dx.sum_dz_xhat = channel(5);
    if (p.gate) backward.partial = backward.dx.dz;
    const auto image = [&](int i) { return images.get() + long{i} * p.n * p.c.now; };
    slopes = forward;
    slopes.mean = channel(2);
    slopes.slope_sums = image(0);
    spread = {backward.dy, p.h * p.w, image(0),   p.gate ? image(2) : nullptr,
              channel(3),  image(4),  channel(4), channel(5)};
  }
};

void add(const Bench& bench) {
  bench.add("", &Pool::forward, pool);
  bench.add(" backward", &Pool::backward, pool_backward);
  bench.add(" with slopes", &Pool::slopes, pool);
  bench.add(" spread", &Pool::spread, kernels::spread);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "pool n=16 hw=28 c=72 act=relu gate",
                                "pool n=16 hw=28 c=120 act=relu gate",
                                "pool n=16 hw=14 c=480 act=hard_swish gate",
                                "pool n=16 hw=14 c=672 act=hard_swish gate",
                                "pool n=16 hw=7 c=960 act=hard_swish gate",
                                "pool n=16 hw=7 c=960 act=hard_swish",
                            },
                            tunas::bench::add);
}
