// Pointwise convolution at the shapes of MobileNetV3-Large, 224 px, batch 16, as a search step
// calls it: normalisation and activation on load, moments and sums on store. Each with our own
// products and with the library's (oneDNN); expansions also with an output that is not stored.
#include "kernels/pointwise.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

// Everything that a forward and a backward call read and write.
struct Pointwise {
  Floats x, y, dz, dx, w, dw, gate, dgate, channels;
  PointwiseForward forward, moments;     // moments: y is not stored
  PointwiseBackward backward, unstored;  // unstored: y was not

  explicit Pointwise(const Problem& p)
      : x(p.rows() * p.c.now),
        y(p.rows() * round_up_8(p.o.now)),
        dz(p.rows() * round_up_8(p.o.now)),
        dx(p.rows() * p.c.now),
        w(long{p.o.max} * p.c.max),
        dw(long{p.o.max} * p.c.max),
        gate(long{p.n} * p.c.now),
        dgate(long{p.n} * p.c.now),
        channels(12L * kStride) {
    const int out = round_up_8(p.o.now);
    forward.x.y = {x.get(), DType::f32, p.n, p.h, p.w, p.c.now};
    forward.x.act = p.act;
    forward.w = {w.get(), DType::f32, p.o, p.c, 1};
    forward.y = {y.get(), DType::f32, p.n, p.h, p.w, out};
    if (p.bias) forward.bias = channel(0);
    if (p.norm) {
      forward.x.scale = channel(1);
      forward.x.shift = channel(2);
      forward.moments = {channel(3), channel(4)};
    }
    if (p.gate) forward.x.gate = gate.get();

    backward.dy = {{dz.get(), DType::f32, p.n, p.h, p.w, out}, forward.y};
    backward.x = forward.x;
    backward.w = forward.w;
    backward.dx.dz = {dx.get(), DType::f32, p.n, p.h, p.w, p.c.now};
    backward.dw = {dw.get(), DType::f32, p.o, p.c, 1};
    if (p.bias) backward.dbias = channel(5);
    if (p.norm) {
      backward.dy.ca = channel(6);
      backward.dy.cb = channel(7);
      backward.dy.cc = channel(8);
    }
    if (p.gate) {
      backward.dx.dgate = dgate.get();
    } else if (p.norm) {
      backward.dx.mean = channel(3);
      backward.dx.inv_std = channel(9);
      backward.dx.sum_dz = channel(10);
      backward.dx.sum_dz_xhat = channel(11);
    }

    moments = forward;
    moments.moments = {channel(3), channel(4)};
    moments.y.data = nullptr;
    unstored = backward;
    unstored.dy.y.data = nullptr;
    unstored.dy.ca = channel(6);
    unstored.dy.cb = channel(7);
    unstored.dy.cc = channel(8);
  }

 private:
  static constexpr long kStride = 4096;
  float* channel(int i) const { return channels.get() + i * kStride; }
};

void add_both_ways(const Bench& bench, const std::string& suffix) {
  bench.add(suffix, &Pointwise::forward, pointwise);
  bench.add(" backward" + suffix, &Pointwise::backward, pointwise_backward);
}

bool is_expansion(const Problem& p) { return p.o.now > 2 * p.c.now && !p.bias && !p.gate; }

void add(const Bench& bench) {
  add_both_ways(bench, "");
  if (is_expansion(bench.problem)) {
    bench.add(" not stored", &Pointwise::moments, pointwise);
    bench.add(" backward not stored", &Pointwise::unstored, pointwise_backward);
  }
#ifdef TUNAS_ONEDNN
  static Machine library(Kernels::library);
  add_both_ways({bench.problem, library}, " library");
#endif
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "pointwise n=16 hw=112 c=16 o=16 norm act=relu",
                                "pointwise n=16 hw=112 c=16 o=64",
                                "pointwise n=16 hw=112 c=16 o=64 norm",
                                "pointwise n=16 hw=56 c=64 o=24 norm act=relu",
                                "pointwise n=16 hw=56 c=24 o=72 norm",
                                "pointwise n=16 hw=56 c=24 o=144 norm",
                                "pointwise n=16 hw=56 c=72 o=24 norm act=relu",
                                "pointwise n=16 hw=28 c=72 o=40 norm act=relu gate",
                                "pointwise n=16 hw=28 c=40 o=120 norm",
                                "pointwise n=16 hw=28 c=40 o=240 norm",
                                "pointwise n=16 hw=28 c=120 o=40 norm act=relu gate",
                                "pointwise n=16 hw=14 c=240 o=80 norm act=hard_swish",
                                "pointwise n=16 hw=14 c=80 o=200 norm",
                                "pointwise n=16 hw=14 c=80 o=480 norm",
                                "pointwise n=16 hw=14 c=480 o=112 norm act=hard_swish gate",
                                "pointwise n=16 hw=14 c=112 o=672 norm",
                                "pointwise n=16 hw=7 c=672 o=160 norm act=hard_swish gate",
                                "pointwise n=16 hw=7 c=160 o=960 norm",
                                "pointwise n=16 hw=7 c=960 o=160 norm act=hard_swish gate",
                                "pointwise n=16 hw=1 c=960 o=240 bias",
                                "pointwise n=16 hw=1 c=960 o=1280 bias",
                                "pointwise n=16 hw=1 c=1280 o=1001 bias act=hard_swish",
                            },
                            tunas::bench::add);
}
