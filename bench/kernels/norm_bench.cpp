// The per-channel part of batch normalisation at the widths of MobileNetV3-Large, 224 px, batch 16,
// with running averages, as training calls it.
#include "kernels/norm.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Norm {
  Floats channels;
  NormForward forward;
  NormBackward backward;

  explicit Norm(const Problem& p) : channels(16L * p.c.now) {
    const auto channel = [&](int i) { return channels.get() + long{i} * p.c.now; };
    forward.c = backward.c = p.c.now;
    forward.rows = backward.rows = p.rows();
    forward.epsilon = 1;  // the variances of Floats are above -1
    forward.gamma = channel(0);
    forward.beta = channel(1);
    forward.mean = backward.mean = channel(2);
    forward.variance = channel(3);
    forward.inv_std = channel(4);
    forward.scale = channel(5);
    forward.shift = channel(6);
    forward.running_mean = channel(7);
    forward.running_variance = channel(8);
    backward.inv_std = forward.inv_std;
    backward.scale = forward.scale;
    backward.sum_dz = channel(9);
    backward.sum_dz_xhat = channel(10);
    backward.ca = channel(11);
    backward.cb = channel(12);
    backward.cc = channel(13);
    backward.dgamma = channel(14);
    backward.dbeta = channel(15);
  }
};

void add(const Bench& bench) {
  bench.add("", &Norm::forward, norm);
  bench.add(" backward", &Norm::backward, norm_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "norm n=16 hw=112 c=16",
                                "norm n=16 hw=28 c=120",
                                "norm n=16 hw=14 c=672",
                                "norm n=16 hw=7 c=960",
                            },
                            tunas::bench::add);
}
