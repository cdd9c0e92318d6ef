// Depthwise convolution at the shapes of MobileNetV3-Large and of the spaces, 224 px, batch 16, as
// a search step calls it: normalisation and activation on load, moments and sums on store. Behind
// an expansion (e=...) also with an x that is made again of it, beside the pointwise convolution
// that stores that x, so that it can be decided layer by layer which is faster.
#include "kernels/depthwise.h"

#include "bench/kernels/problems.h"
#include "kernels/pointwise.h"

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

  float* channel(int i) const { return channels.get() + long{i} * forward.w.in.now; }
};

// The same call with and without the x that `pointwise` stores.
struct Expanded {
  Depthwise stored;
  Floats u, du, w, dw, channels;
  PointwiseForward pointwise;
  PointwiseBackward pointwise_backward;
  DepthwiseForward forward;
  DepthwiseBackward backward;

  explicit Expanded(const Problem& p)
      : stored(p),
        u(p.rows() * p.e.now),
        du(p.rows() * p.e.now),
        w(long{p.c.max} * p.e.max),
        dw(long{p.c.max} * p.e.max),
        channels(6L * p.e.now),
        forward(stored.forward),
        backward(stored.backward) {
    const Tensor from{u.get(), DType::f32, p.n, p.h, p.w, p.e.now};
    pointwise.x = {from, channel(0), channel(1)};
    pointwise.w = {w.get(), DType::f32, p.c, p.e};
    pointwise.moments = forward.moments;
    pointwise.y = forward.x.y;

    pointwise_backward.dy = {backward.dx.dz, forward.x.y, stored.channel(4), stored.channel(5),
                             stored.channel(6)};
    pointwise_backward.x = pointwise.x;
    pointwise_backward.w = pointwise.w;
    pointwise_backward.dx.dz = from;
    pointwise_backward.dx.dz.data = du.get();
    pointwise_backward.dx.mean = channel(2);
    pointwise_backward.dx.inv_std = channel(3);
    pointwise_backward.dx.sum_dz = channel(4);
    pointwise_backward.dx.sum_dz_xhat = channel(5);
    pointwise_backward.dw = pointwise.w;
    pointwise_backward.dw.data = dw.get();

    forward.expansion = backward.expansion = {pointwise.x, pointwise.w};
    forward.x.y.data = backward.x.y.data = nullptr;
  }

 private:
  float* channel(int i) const { return channels.get() + long{i} * pointwise.w.in.now; }
};

void add(const Bench& bench) {
  bench.add("", &Depthwise::forward, depthwise);
  bench.add(" backward", &Depthwise::backward, depthwise_backward);
  if (bench.problem.e.now == 0) return;
  bench.add(" pointwise", &Expanded::pointwise, pointwise);
  bench.add(" pointwise backward", &Expanded::pointwise_backward, pointwise_backward);
  bench.add(" expanded", &Expanded::forward, depthwise);
  bench.add(" expanded backward", &Expanded::backward, depthwise_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "depthwise n=16 hw=112 c=16 k=3 act=relu",
                                "depthwise n=16 hw=112 e=16 c=64 k=3 s=2 act=relu",
                                "depthwise n=16 hw=112 e=16 c=96 k=3 s=2 act=relu6",
                                "depthwise n=16 hw=56 e=24 c=72 k=3 act=relu",
                                "depthwise n=16 hw=56 e=24 c=144 k=3 act=relu6",
                                "depthwise n=16 hw=56 c=72 k=5 s=2 act=relu",
                                "depthwise n=16 hw=28 e=40 c=120 k=5 act=relu",
                                "depthwise n=16 hw=28 c=120 k=7 act=relu",
                                "depthwise n=16 hw=28 e=40 c=240 k=3 s=2 act=hard_swish",
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
