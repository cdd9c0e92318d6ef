// The stem at 224 px, batch 16, forward and backward, with moments and normalisation.
#include "kernels/conv.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Conv {
  Floats image, y, dz, w, dw, channels;
  ConvForward forward;
  ConvBackward backward;

  // The image is stored with the border that its windows need and no more.
  static int stored(int in, const Problem& p) {
    const Axis axis = pad_axis(p.padding, in, p.k, p.s);
    return axis.before + in + axis.after;
  }
  static int out(int in, const Problem& p) { return pad_axis(p.padding, in, p.k, p.s).out; }

  explicit Conv(const Problem& p)
      : image(4L * p.n * stored(p.h, p) * stored(p.w, p)),
        y(long{p.n} * out(p.h, p) * out(p.w, p) * p.o.now),
        dz(long{p.n} * out(p.h, p) * out(p.w, p) * p.o.now),
        w(4L * p.o.max * p.k * p.k),
        dw(4L * p.o.max * p.k * p.k),
        channels(5L * p.o.now) {
    forward.image = {image.get(), DType::f32, p.n, stored(p.h, p), stored(p.w, p), 4};
    forward.w = {w.get(), DType::f32, p.o, {4, 4}, p.k};
    forward.stride = p.s;
    forward.y = {y.get(), DType::f32, p.n, out(p.h, p), out(p.w, p), p.o.now};
    forward.moments = {channel(0), channel(1)};
    Tensor dy = forward.y;
    dy.data = dz.get();
    backward.dy = {dy, forward.y, channel(2), channel(3), channel(4)};
    backward.image = forward.image;
    backward.w = forward.w;
    backward.stride = p.s;
    backward.dw = {dw.get(), DType::f32, p.o, {4, 4}, p.k};
  }

 private:
  float* channel(int i) const { return channels.get() + long{i} * forward.y.c; }
};

void add(const Bench& bench) {
  bench.add("", &Conv::forward, conv);
  bench.add(" backward", &Conv::backward, conv_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "conv n=16 hw=224 o=16 k=3 s=2",
                                "conv n=16 hw=224 o=32 k=3 s=2",
                                "conv n=16 hw=224 o=64 k=5 s=2",
                                "conv n=16 hw=32 o=16 k=3 s=1",
                            },
                            tunas::bench::add);
}
