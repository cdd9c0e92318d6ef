// Depthwise convolution, forward and backward.
#include <cmath>

#include "tests/kernels/depthwise_case.h"

namespace tunas::test {
namespace {

TEST(Depthwise, MatchesTheReferenceInEveryGeometry) {
  for (const Problem& problem : every_geometry("n=2 c=24/40 norm act=relu6")) {
    check_real<DepthwiseCase>(problem);
  }
}

TEST(Depthwise, IsExactOnIntegersInEveryGeometry) {
  for (const Problem& problem : every_geometry("n=1 c=8/24 norm act=relu")) {
    check_exact<DepthwiseCase>(problem);
  }
}

class Depthwise : public ::testing::TestWithParam<Problem> {};

TEST_P(Depthwise, MatchesTheReference) { check_real<DepthwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(
    Shapes, Depthwise,
    ::testing::ValuesIn(problems({
        "depthwise n=1 hw=1 c=8 k=3",
        "depthwise n=1 hw=2 c=8/16 k=7 s=2",
        "depthwise n=1 hw=3 c=16 k=7 norm act=relu",
        "depthwise n=3 hw=9 c=8/72 k=5 norm act=hard_swish accumulate",
        "depthwise n=2 h=9 w=14 c=72 k=3 s=2 norm act=sigmoid",
        "depthwise n=2 h=15 w=6 c=32/40 k=5 s=2 norm act=hard_sigmoid accumulate",
        "depthwise n=2 hw=14 c=40 k=7 norm",
        "depthwise n=2 hw=13 c=56/96 k=5 act=relu",
        "depthwise n=1 hw=28 c=240/512 k=5 s=2 norm act=hard_swish",
        "depthwise n=2 hw=30 c=16/24 k=3 norm act=relu accumulate",
        "depthwise n=1 hw=57 c=8 k=7 s=2 pad=symmetric norm act=relu6",
        // 17 MB in whole cache lines: stored past the caches
        "depthwise n=2 hw=107 c=192/200 k=3 norm act=relu",
    })));

class DepthwiseThreads : public ::testing::TestWithParam<Problem> {};

TEST_P(DepthwiseThreads, DoNotChangeBits) { check_threads<DepthwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, DepthwiseThreads,
                         ::testing::ValuesIn(problems({
                             "depthwise n=1 hw=7 c=8 k=3 norm act=relu",
                             "depthwise n=3 hw=56 c=72/96 k=3 norm act=relu",
                             "depthwise n=2 hw=56 c=144/192 k=7 s=2 norm act=relu6",
                             "depthwise n=5 hw=14 c=480/960 k=5 norm act=hard_swish accumulate",
                             "depthwise n=1 hw=112 c=16/32 k=5 s=2 norm act=relu",
                         })));

TEST(Depthwise, UnwantedGradients) {
  Generator random;
  const Problem problem = Problem::parse("depthwise n=2 hw=9 c=24/32 k=5 norm act=relu");
  const reference::Shape shape{2, 9, 9, 24};
  const reference::Source source = draw_source(random, problem, shape);
  const reference::Incoming incoming = draw_incoming(random, shape, true);
  const GradValues grad = draw_grad(random, problem, source);
  const Values w = random.tensor(25 * 24), zero(25 * 24, 0.0);
  const IncomingMemory dy(incoming, shape);
  const SourceMemory x(source);
  const Width one{1, 1}, c{32, 24};
  const StoredFilter filter(one, c, 5, w), dw_both(one, c, 5, zero), dw_alone(one, c, 5, zero);
  const GradMemory dx_both(grad), dx_alone(grad), dx_none(grad);
  Cpu cpu(2);
  DepthwiseBackward args{dy.view(), x.view(),       filter.view(), 1, 2, 2,
                         0,         dx_both.view(), dw_both.view()};
  kernels::depthwise_backward(cpu.stream(), args);
  args.dx = dx_alone.view();
  args.dw.data = nullptr;
  kernels::depthwise_backward(cpu.stream(), args);
  expect_same_bits(dx_alone.results(), dx_both.results());
  args.dx = dx_none.view();
  args.dx.dz.data = nullptr;
  args.dw = dw_alone.view();
  kernels::depthwise_backward(cpu.stream(), args);
  expect_same_bits({{"dw", dw_alone.prefix()}}, {{"dw", dw_both.prefix()}});
  for (const Named& named : dx_none.results()) {
    for (double value : named.values) ASSERT_TRUE(std::isnan(value)) << named.name;
  }
}

TEST(Depthwise, DryStreamAddsTheFloor) {
  const Guarded x(2 * 14 * 14 * 72), y(2 * 7 * 7 * 72), w(25 * 96), dx(x.size()), dw(25 * 96);
  const Tensor in{x.data(), DType::f32, 2, 14, 14, 72}, out{y.data(), DType::f32, 2, 7, 7, 72};
  const Filter filter{w.data(), DType::f32, {1, 1}, {96, 72}, 5};
  const double flops = 2.0 * 25 * 2 * 7 * 7 * 72;
  const double x_bytes = 4.0 * 2 * 14 * 14 * 72, y_bytes = 4.0 * 2 * 7 * 7 * 72;
  const double w_bytes = 4.0 * 25 * 72;
  const Cost forward =
      dry_cost(DepthwiseForward{{in}, filter, 2, 1, 1, {}, out}, kernels::depthwise);
  expect_floor(forward, {flops, x_bytes, y_bytes}, w_bytes);
  DepthwiseBackward args;
  args.dy.dz = out;
  args.x.y = in;
  args.w = filter;
  args.stride = 2;
  args.top = args.left = 1;
  args.dx.dz = {dx.data(), DType::f32, 2, 14, 14, 72};
  args.dw = {dw.data(), DType::f32, {1, 1}, {96, 72}, 5};
  const Cost backward = dry_cost(args, kernels::depthwise_backward);
  expect_floor(backward, {2 * flops, y_bytes + x_bytes, x_bytes}, w_bytes);
  EXPECT_TRUE(y.untouched() && dx.untouched() && dw.untouched());
}

TEST(Depthwise, RefusesWrongShapes) {
  const Guarded x(Values(2 * 49 * 16, 1.0)), y(2 * 49 * 16), w(Values(9 * 16, 1.0));
  const Tensor in{x.data(), DType::f32, 2, 7, 7, 16}, out{y.data(), DType::f32, 2, 7, 7, 16};
  const Filter filter{w.data(), DType::f32, {1, 1}, {16, 16}, 3};
  Cpu cpu;
  const auto run = [&](const Tensor& from, const Filter& with, int stride, const Tensor& to) {
    kernels::depthwise(cpu.stream(), {{from}, with, stride, 1, 1, {}, to});
  };
  Tensor narrow = in, fewer = out, half = in;
  narrow.c = 8;
  fewer.n = 1;
  half.type = DType::bf16;
  Filter even = filter, wide = filter;
  even.k = 4;
  wide.in = {8, 16};
  EXPECT_NO_THROW(run(in, filter, 1, out));
  EXPECT_THROW(run(narrow, filter, 1, out), Error);
  EXPECT_THROW(run(in, filter, 1, fewer), Error);
  EXPECT_THROW(run(half, filter, 1, out), Error);
  EXPECT_THROW(run(in, even, 1, out), Error);
  EXPECT_THROW(run(in, wide, 1, out), Error);
  EXPECT_THROW(run(in, filter, 3, out), Error);
}

}  // namespace
}  // namespace tunas::test
