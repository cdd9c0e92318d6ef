// The squeeze-and-excite gate at the widths of MobileNetV3-Large and of the spaces, batch 16.
#include "kernels/gate.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Gate {
  Floats x, y, dy, dx;
  GateForward forward;
  GateBackward backward;

  explicit Gate(const Problem& p)
      : x(p.rows() * p.c.now),
        y(p.rows() * p.c.now),
        dy(p.rows() * p.c.now),
        dx(p.rows() * p.c.now) {
    const auto at = [&](const Floats& data) {
      return Tensor{data.get(), DType::f32, p.n, p.h, p.w, p.c.now};
    };
    forward = {at(x), p.act, 0, 1, at(y)};
    backward = {at(x), p.act, 1, at(dy), at(dx)};
  }
};

void add(const Bench& bench) {
  bench.add("", &Gate::forward, gate);
  bench.add(" backward", &Gate::backward, gate_backward);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "gate n=16 c=72 act=hard_sigmoid",
                                "gate n=16 c=480 act=hard_sigmoid",
                                "gate n=16 c=960 act=hard_sigmoid",
                                "gate n=16 c=960 act=sigmoid",
                            },
                            tunas::bench::add);
}
