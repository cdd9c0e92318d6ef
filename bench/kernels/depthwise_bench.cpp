// Depthwise convolution at the shapes of MobileNetV3-Large and of the spaces, 224 px, batch 16, as
// a search step calls it: normalisation and activation on load, moments and sums on store.
#include "kernels/depthwise.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Depthwise {
  Floats x, dx, y, dz, w, dw, channels;
  DepthwiseForward forward;
  DepthwiseBackward backward;

  static int out(int in, const Problem& p) { return pad_axis(p.padding, in, p.k, p.s).out; }

  explicit Depthwise(const Problem& p)
      : x(p.rows() * p.c.now),
        dx(p.rows() * p.c.now),
        y(long{p.n} * out(p.h, p) * out(p.w, p) * p.c.now),
        dz(long{p.n} * out(p.h, p) * out(p.w, p) * p.c.now),
        w(long{p.k} * p.k * p.c.max),
        dw(long{p.k} * p.k * p.c.max),
        channels(11L * p.c.now) {
    forward.x = {{x.get(), DType::f32, p.n, p.h, p.w, p.c.now}, channel(0), channel(1), p.act};
    forward.w = {w.get(), DType::f32, {1, 1}, p.c, p.k};
    forward.stride = p.s;
    forward.top = pad_axis(p.padding, p.h, p.k, p.s).before;
    forward.left = pad_axis(p.padding, p.w, p.k, p.s).before;
    forward.moments = {channel(2), channel(3)};
    forward.y = {y.get(), DType::f32, p.n, out(p.h, p), out(p.w, p), p.c.now};

    backward.dy = {forward.y, forward.y, channel(4), channel(5), channel(6)};
    backward.dy.dz.data = dz.get();
    backward.x = forward.x;
    backward.w = forward.w;
    backward.stride = p.s;
    backward.top = forward.top;
    backward.left = forward.left;
    backward.dx.dz = forward.x.y;
    backward.dx.dz.data = dx.get();
    backward.dx.mean = channel(7);
    backward.dx.inv_std = channel(8);
    backward.dx.sum_dz = channel(9);
    backward.dx.sum_dz_xhat = channel(10);
    backward.dw = {dw.get(), DType::f32, {1, 1}, p.c, p.k};
  }

 private:
  float* channel(int i) const { return channels.get() + long{i} * forward.w.in.now; }
};

void add(const Bench& bench) {
  bench.add("", &Depthwise::forward, depthwise);
  bench.add(" backward", &Depthwise::backward, depthwise_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "depthwise n=16 hw=112 c=16 k=3 act=relu",
                                "depthwise n=16 hw=112 c=64 k=3 s=2 act=relu",
                                "depthwise n=16 hw=112 c=96 k=3 s=2 act=relu6",
                                "depthwise n=16 hw=56 c=72 k=3 act=relu",
                                "depthwise n=16 hw=56 c=144 k=3 act=relu6",
                                "depthwise n=16 hw=56 c=72 k=5 s=2 act=relu",
                                "depthwise n=16 hw=28 c=120 k=5 act=relu",
                                "depthwise n=16 hw=28 c=120 k=7 act=relu",
                                "depthwise n=16 hw=28 c=240 k=3 s=2 act=hard_swish",
                                "depthwise n=16 hw=14 c=480 k=3 act=hard_swish",
                                "depthwise n=16 hw=14 c=480 k=7 act=hard_swish",
                                "depthwise n=16 hw=14 c=672 k=3 act=hard_swish",
                                "depthwise n=16 hw=14 c=672 k=5 s=2 act=hard_swish",
                                "depthwise n=16 hw=14 c=672 k=7 s=2 act=hard_swish",
                                "depthwise n=16 hw=7 c=960 k=5 act=hard_swish",
                                "depthwise n=16 hw=7 c=960 k=7 act=hard_swish",
                                "depthwise n=16 hw=7 c=480/960 k=5 act=hard_swish",
                            },
                            tunas::bench::add);
}
