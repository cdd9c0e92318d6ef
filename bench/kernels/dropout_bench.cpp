// Dropout before the classifier of MobileNetV3-Large and of MobileNetV2, training batches; the
// activation is applied on load.
#include "kernels/dropout.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Dropout {
  Floats x, y, dy, dx;
  PhiloxKey key;
  DropoutForward forward;
  DropoutBackward backward;

  explicit Dropout(const Problem& p)
      : x(p.rows() * p.c.now),
        y(p.rows() * p.c.now),
        dy(p.rows() * p.c.now),
        dx(p.rows() * p.c.now) {
    const auto at = [&](const Floats& data) {
      return Tensor{data.get(), DType::f32, p.n, p.h, p.w, p.c.now};
    };
    forward.x.y = at(x);
    forward.x.act = p.act;
    forward.rate = backward.rate = 0.2f;
    forward.key = backward.key = &key;
    forward.out = at(y);
    backward.dout = at(dy);
    backward.x = forward.x;
    backward.dx.dz = at(dx);
  }
};

void add(const Bench& bench) {
  bench.add("", &Dropout::forward, dropout);
  bench.add(" backward", &Dropout::backward, dropout_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "dropout n=16 c=1280 act=hard_swish",
                                "dropout n=16 c=1280",
                                "dropout n=128 c=1280 act=hard_swish",
                            },
                            tunas::bench::add);
}
