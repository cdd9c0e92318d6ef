// Mix at the residual sums and the first block of MobileNets, 224 px, batch 16: `k` terms, the
// first normalised and activated on load, the others plain; backward of the first; where terms are
// normalised, the sums of all of them.
#include "kernels/mix.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Mix {
  Floats terms, out, dout, dz, channels;
  MixForward forward;
  MixBackward backward;
  MixSums sums;

  explicit Mix(const Problem& p)
      : terms(p.k * p.rows() * p.c.now),
        out(p.rows() * p.c.now),
        dout(p.rows() * p.c.now),
        dz(p.rows() * p.c.now),
        channels(6L * p.c.now) {
    const Tensor shape{nullptr, DType::f32, p.n, p.h, p.w, p.c.now};
    const auto at = [&](float* data) {
      Tensor t = shape;
      t.data = data;
      return t;
    };
    forward.terms = p.k;
    for (int t = 0; t < p.k; ++t) {
      forward.weight[t] = 1;
      forward.x[t].y = at(terms.get() + t * shape.size());
    }
    forward.x[0].act = p.act;
    forward.out = at(out.get());
    backward.dout = at(dout.get());
    backward.dx.dz = at(dz.get());
    const auto channel = [&](int i) { return channels.get() + long{i} * p.c.now; };
    if (p.norm) {
      forward.x[0].scale = channel(0);
      forward.x[0].shift = channel(1);
      backward.dx.mean = channel(2);
      backward.dx.inv_std = channel(3);
      backward.dx.sum_dz = channel(4);
      backward.dx.sum_dz_xhat = channel(5);
    }
    backward.x = forward.x[0];
    sums.dout = backward.dout;
    sums.terms = p.norm ? p.k : 0;
    for (int t = 0; t < sums.terms; ++t) {
      sums.term[t] = {1,          backward.x, Write::overwrite, channel(2),
                      channel(3), channel(4), channel(5)};
      sums.term[t].x.y = forward.x[t].y;
    }
  }
};

void add(const Bench& bench) {
  bench.add("", &Mix::forward, mix);
  bench.add(" backward", &Mix::backward, mix_backward);
  if (bench.problem.norm) bench.add(" sums", &Mix::sums, mix_sums);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "mix n=16 hw=112 c=16 k=1 norm act=hard_swish",
                                "mix n=16 hw=112 c=16 k=2 norm",
                                "mix n=16 hw=56 c=24 k=2 norm",
                                "mix n=16 hw=28 c=40 k=2 norm",
                                "mix n=16 hw=14 c=112 k=2 norm",
                                "mix n=16 hw=14 c=112 k=4 norm",
                                "mix n=16 hw=7 c=160 k=2",
                            },
                            tunas::bench::add);
}
