// Depthwise convolution of an x that is not stored, and of gradients that its reader deferred.
#include "tests/kernels/depthwise_case.h"

namespace tunas::test {
namespace {

// Gradients that the reader of y left to this convolution, in all ways that it can leave them.
class DepthwiseDeferred : public ::testing::TestWithParam<Problem> {};

TEST_P(DepthwiseDeferred, MatchesTheReference) { check_real<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseDeferred, DoesNotDependOnThreads) { check_threads<DepthwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(
    Shapes, DepthwiseDeferred,
    ::testing::ValuesIn(problems({
        "depthwise n=3 hw=14 c=24/32 k=3 norm deferred",
        "depthwise n=2 hw=15 c=40/72 k=5 s=2 norm act=relu6 deferred spread",
        "depthwise n=3 hw=9 c=8 k=3 norm act=relu spread",
        "depthwise n=2 hw=14 c=480/512 k=7 s=2 norm act=hard_swish deferred spread accumulate",
        "depthwise n=5 hw=7 c=200 k=5 norm act=hard_swish spread",
        "depthwise n=1 h=9 w=30 c=16 k=3 s=2 norm act=sigmoid deferred spread",
        "depthwise n=2 hw=8 c=24 k=3 norm act=hard_sigmoid deferred",
    })));

// An x that is made again of what it was expanded from.
class DepthwiseExpanded : public ::testing::TestWithParam<Problem> {};

TEST_P(DepthwiseExpanded, MatchesTheReference) { check_real<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseExpanded, DoesNotDependOnThreads) { check_threads<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseExpanded, LeavesTheBitsOfAStoredExpansion) {
  Generator random;
  SCOPED_TRACE(random.trace());
  const DepthwiseCase expanded(random, GetParam());
  Cpu cpu(2);
  const DepthwiseCase stored = expanded.stored(cpu.stream());
  expect_same_bits(expanded.forward(cpu.stream()), stored.forward(cpu.stream()));
  expect_same_bits(expanded.backward(cpu.stream()), stored.backward(cpu.stream()));
}
TUNAS_TEST_LIBRARY(DepthwiseExpanded, LibraryMatchesTheReference, check_real<DepthwiseCase>);
INSTANTIATE_TEST_SUITE_P(
    Shapes, DepthwiseExpanded,
    ::testing::ValuesIn(problems({
        "depthwise n=1 hw=7 e=8 c=8 k=3",
        "depthwise n=2 hw=16 e=16/24 c=64/96 k=3 s=2 norm act=relu",
        "depthwise n=2 h=9 w=13 e=24/32 c=72/80 k=3 norm act=relu6 accumulate",
        "depthwise n=1 hw=14 e=40 c=240/512 k=5 s=2 pad=symmetric norm act=hard_swish",
        "depthwise n=3 hw=9 e=16 c=40 k=7 act=relu",
        "depthwise n=2 hw=7 e=8/16 c=264/320 k=3 norm act=hard_swish deferred spread",  // 2 groups
        "depthwise n=2 hw=56 e=24 c=144 k=7 norm act=relu6",                            // 2 groups
        "depthwise n=2 hw=15 e=80/112 c=88 k=5 norm act=sigmoid spread",
    })));

TEST(Depthwise, IsExactOnIntegersWithAnExpansionAndWhatIsDeferred) {
  for (const Problem& problem : every_geometry("n=1 e=8/16 c=8/24 norm act=relu deferred spread")) {
    check_exact<DepthwiseCase>(problem);
  }
}

TEST(Depthwise, AnExpansionCostsItsProductInPlaceOfX) {
  const Guarded u(2 * 14 * 14 * 16), y(2 * 7 * 7 * 72), w(25 * 72), made(72 * 24);
  const Tensor out{y.data(), DType::f32, 2, 7, 7, 72};
  DepthwiseForward args;
  args.x.y = {nullptr, DType::f32, 2, 14, 14, 72};
  args.w = {w.data(), DType::f32, {1, 1}, {72, 72}, 5};
  args.stride = 2;
  args.top = args.left = 1;
  args.y = out;
  args.expansion = {{{u.data(), DType::f32, 2, 14, 14, 16}},
                    {made.data(), DType::f32, {72, 72}, {24, 16}}};
  const double convolution = 2.0 * 25 * 2 * 7 * 7 * 72, product = 2.0 * 2 * 14 * 14 * 16 * 72;
  const double u_bytes = 4.0 * 2 * 14 * 14 * 16, y_bytes = 4.0 * 2 * 7 * 7 * 72;
  const double x_bytes = 4.0 * 2 * 14 * 14 * 72, w_bytes = 4.0 * (25 * 72 + 72 * 16);
  const Cost forward = dry_cost(args, kernels::depthwise);
  expect_floor(forward, {convolution + product, u_bytes, y_bytes}, w_bytes);
  EXPECT_LE(forward.flops, convolution + product);
  const Guarded dx(2 * 14 * 14 * 72);
  DepthwiseBackward back{.dy = {}, .x = args.x, .w = args.w, .dx = {}, .dw = args.w};
  back.dy.dz = out;
  back.dx.dz = args.x.y;
  back.dx.dz.data = dx.data();
  back.expansion = args.expansion;
  const Cost backward = dry_cost(back, kernels::depthwise_backward);
  expect_floor(backward, {2 * convolution + product, y_bytes + u_bytes, x_bytes}, w_bytes);
}

TEST(Depthwise, RefusesWhatNoRowsComeFrom) {
  Generator random;
  const Problem problem = Problem::parse("depthwise n=2 hw=7 e=8 c=16 k=3 norm act=relu");
  const reference::Expansion values = draw_expansion(random, problem);
  const ExpansionMemory expansion(values, problem);
  const Guarded x(Values(2 * 49 * 16, 1.0)), y(2 * 49 * 16), w(Values(9 * 16, 1.0));
  const Tensor in{x.data(), DType::f32, 2, 7, 7, 16}, out{y.data(), DType::f32, 2, 7, 7, 16};
  Tensor absent = in;
  absent.data = nullptr;
  Cpu cpu;
  const auto run = [&](const Tensor& from, const kernels::Expansion& made) {
    const Filter filter{w.data(), DType::f32, {1, 1}, {16, 16}, 3};
    kernels::depthwise(cpu.stream(), {{from}, filter, 1, 1, 1, {}, out, made});
  };
  kernels::Expansion narrow = expansion.view(), fewer = narrow, gated = narrow;
  narrow.w.out.now = 8;
  fewer.x.y.n = 1;
  gated.x.gate = x.data();
  EXPECT_NO_THROW(run(absent, expansion.view()));
  EXPECT_THROW(run(absent, {}), Error);
  EXPECT_THROW(run(in, expansion.view()), Error);
  EXPECT_THROW(run(absent, narrow), Error);
  EXPECT_THROW(run(absent, fewer), Error);
  EXPECT_THROW(run(absent, gated), Error);
}

TEST(Depthwise, RefusesAGradientOfNothing) {
  const Guarded x(Values(49 * 8, 1.0)), dw(Values(9 * 8, 0.0)), c(Values(8, 1.0));
  const Tensor in{x.data(), DType::f32, 1, 7, 7, 8};
  const Filter filter{dw.data(), DType::f32, {1, 1}, {8, 8}, 3};
  DepthwiseBackward args;
  args.dy = {in, in, c.data(), c.data(), c.data(), {1, c.data(), c.data(), c.data(), Act::relu}};
  args.dy.dz.data = nullptr;
  args.x.y = in;
  args.w = args.dw = filter;
  args.top = args.left = 1;
  Cpu cpu;
  const auto refuses = [&](auto change) {
    DepthwiseBackward changed = args;
    change(changed.dy);
    EXPECT_THROW(kernels::depthwise_backward(cpu.stream(), changed), Error);
  };
  EXPECT_NO_THROW(kernels::depthwise_backward(cpu.stream(), args));
  refuses([](kernels::Incoming& dy) { dy.deferred.spread = nullptr; });
  refuses([](kernels::Incoming& dy) { dy.deferred.scale = nullptr; });
  refuses([](kernels::Incoming& dy) { dy.deferred.shift = nullptr; });
  refuses([](kernels::Incoming& dy) { dy.ca = dy.cb = dy.cc = nullptr; });
  refuses([](kernels::Incoming& dy) { dy.cc = nullptr; });
  refuses([](kernels::Incoming& dy) { dy.y.data = nullptr; });
}

}  // namespace
}  // namespace tunas::test
