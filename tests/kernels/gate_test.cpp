// The gate of squeeze-and-excite, forward and backward.
#include "kernels/gate.h"

#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::GateBackward;
using kernels::GateForward;

/// `act` in the problem is the kind; with `accumulate` the all-operations state (0.5, 0.5).
class GateCase {
 public:
  GateCase(Generator& random, const Problem& problem)
      : shape_{problem.n, 1, 1, problem.c.now},
        kind_(problem.act),
        off_(problem.accumulate ? 0.5f : 0.0f),
        on_(problem.accumulate ? 0.5f : 1.0f),
        x_(random.tensor(shape_.size())),
        dgate_(random.tensor(shape_.size())) {}

  Results forward(Stream stream) const {
    const Guarded x(x_), gate(shape_.size());
    kernels::gate(stream, {tensor(x, shape_), kind_, off_, on_, tensor(gate, shape_)});
    return {{"gate", gate.values()}};
  }
  Results forward_reference() const { return {{"gate", reference::gate(x_, kind_, off_, on_)}}; }

  Results backward(Stream stream) const {
    const Guarded x(x_), dgate(dgate_), dx(shape_.size());
    kernels::gate_backward(
        stream, {tensor(x, shape_), kind_, on_, tensor(dgate, shape_), tensor(dx, shape_)});
    return {{"dx", dx.values()}};
  }
  Results backward_reference() const {
    return {{"dx", reference::gate_backward(x_, kind_, on_, dgate_)}};
  }

 private:
  reference::Shape shape_;
  Act kind_;
  float off_, on_;
  Values x_, dgate_;
};

class Gate : public ::testing::TestWithParam<Problem> {};

TEST_P(Gate, MatchesTheReference) { check_real<GateCase>(GetParam()); }
TEST_P(Gate, ThreadsDoNotChangeBits) { check_threads<GateCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, Gate,
                         ::testing::ValuesIn(problems({
                             "gate n=1 c=8 act=sigmoid",
                             "gate n=16 c=960 act=sigmoid accumulate",
                             "gate n=3 c=72 act=hard_sigmoid",
                             "gate n=2 c=24 act=hard_sigmoid accumulate",
                         })));

TEST(Gate, SaturatesWithoutNan) {
  const Guarded x(Values{-200, -100, -20, 0, 20, 100, 200, 1000}), dgate(Values(8, 1.0)), gate(8),
      dx(8);
  Cpu cpu;
  const reference::Shape shape{1, 1, 1, 8};
  kernels::gate(cpu.stream(), {tensor(x, shape), Act::sigmoid, 0, 1, tensor(gate, shape)});
  kernels::gate_backward(
      cpu.stream(), {tensor(x, shape), Act::sigmoid, 1, tensor(dgate, shape), tensor(dx, shape)});
  expect_close("gate", gate.values(), reference::gate(x.values(), Act::sigmoid, 0, 1));
  EXPECT_EQ(gate.values()[7], 1);
  EXPECT_EQ(dx.values()[7], 0);
  EXPECT_EQ(dx.values()[0], 0);
}

TEST(Gate, RefusesWrongArguments) {
  const Guarded x(Values(16, 1.0)), gate(16);
  Cpu cpu;
  const Tensor in{x.data(), DType::f32, 2, 1, 1, 8}, to{gate.data(), DType::f32, 2, 1, 1, 8};
  Tensor tall{x.data(), DType::f32, 1, 2, 1, 8};
  EXPECT_NO_THROW(kernels::gate(cpu.stream(), {in, Act::sigmoid, 0, 1, to}));
  EXPECT_THROW(kernels::gate(cpu.stream(), {in, Act::relu, 0, 1, to}), Error);
  EXPECT_THROW(kernels::gate(cpu.stream(), {tall, Act::sigmoid, 0, 1, to}), Error);
  Tensor narrow = to;
  narrow.c = 4;
  EXPECT_THROW(kernels::gate(cpu.stream(), {in, Act::sigmoid, 0, 1, narrow}), Error);
}

TEST(Gate, DryStreamAddsTheFloor) {
  const Guarded x(16), gate(16), dx(16);
  const auto view = [](const Guarded& memory) {
    return Tensor{memory.data(), DType::f32, 2, 1, 1, 8};
  };
  EXPECT_EQ(dry_cost(GateForward{view(x), Act::sigmoid, 0, 1, view(gate)}, kernels::gate).bytes(),
            2 * 64);
  EXPECT_EQ(
      dry_cost(GateBackward{view(x), Act::sigmoid, 1, view(gate), view(dx)}, kernels::gate_backward)
          .bytes(),
      3 * 64);
  EXPECT_TRUE(gate.untouched() && dx.untouched());
}

}  // namespace
}  // namespace tunas::test
