// A gradient that another reader of x left to the depthwise convolution (Addend of
// kernels/source.h), and which kernels take one. The pointwise convolution's lie with its other
// tests.
#include "kernels/dropout.h"
#include "kernels/mix.h"
#include "kernels/pool.h"
#include "tests/kernels/depthwise_case.h"

namespace tunas::test {
namespace {

using kernels::SourceGrad;

class DepthwiseAddend : public ::testing::TestWithParam<Problem> {};

TEST_P(DepthwiseAddend, MatchesTheReference) { check_real<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseAddend, DoesNotDependOnThreads) { check_threads<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseAddend, LeavesWhatItReplaces) { check_composition<DepthwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(
    Shapes, DepthwiseAddend,
    ::testing::ValuesIn(problems({
        "depthwise n=1 hw=1 c=8 k=3 addend",
        "depthwise n=2 hw=14 c=16/24 k=3 norm act=relu addend",
        "depthwise n=3 hw=15 c=40/72 k=5 s=2 norm act=relu6 addend in_place",
        "depthwise n=2 hw=9 c=72 k=7 norm addend",
        "depthwise n=2 hw=13 c=24 k=5 act=relu deferred spread norm addend in_place",
        "depthwise n=2 hw=16 e=16/24 c=64/96 k=3 norm act=relu addend",
        // In whole cache lines that are stored past the caches, over the addend and beside it.
        "depthwise n=2 hw=107 c=192/200 k=3 norm act=relu addend in_place",
        "depthwise n=2 hw=107 c=192/200 k=3 norm act=relu addend",
    })));

TEST(DepthwiseAddend, MatchesTheReferenceWithEveryActivation) {
  for (const char* act : {"none", "relu", "relu6", "hard_swish", "sigmoid", "hard_sigmoid"}) {
    check_real<DepthwiseCase>(
        Problem::parse("depthwise n=2 hw=15 c=24/32 k=3 norm addend act=" + std::string(act)));
  }
}

TEST(DepthwiseAddend, IsExactOnIntegersInEveryGeometry) {
  for (const Problem& problem : every_geometry("n=1 c=8/24 norm act=relu addend")) {
    check_exact<DepthwiseCase>(problem);
  }
}

/// What both convolutions' backward passes take, an addend beside dz.
struct Arguments {
  Guarded memory{Values(49 * 16, 1.0)}, left{Values(49 * 16, 1.0)}, dx{Values(49 * 16, 1.0)};
  Guarded weights{Values(16 * 16, 1.0)}, sums{Values(16, 0.0)};
  Tensor in{memory.data(), DType::f32, 1, 7, 7, 16};
  SourceGrad grad;

  Arguments() {
    grad.dz = grad.addend.da = in;
    grad.dz.data = dx.data();
    grad.addend.da.data = left.data();
  }
  DepthwiseBackward depthwise() const {
    DepthwiseBackward args;
    args.dy.dz = args.x.y = in;
    args.w = {weights.data(), DType::f32, {1, 1}, {16, 16}, 3};
    args.top = args.left = 1;
    args.dx = grad;
    return args;
  }
  kernels::PointwiseBackward pointwise() const {
    kernels::PointwiseBackward args;
    args.dy.dz = args.x.y = in;
    args.w = {weights.data(), DType::f32, {16, 16}, {16, 16}};
    args.dx = grad;
    return args;
  }
};

template <class Call>
void expect_refused(const Call& call, const std::string& sentence) {
  try {
    call();
    ADD_FAILURE() << "not refused: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), sentence);
  }
}

TEST(Addend, IsReadOnceMore) {
  const Arguments arguments;
  DepthwiseBackward depthwise = arguments.depthwise();
  kernels::PointwiseBackward pointwise = arguments.pointwise();
  const Cost taken = dry_cost(depthwise, kernels::depthwise_backward);
  const Cost taken_too = dry_cost(pointwise, kernels::pointwise_backward);
  depthwise.dx.addend = pointwise.dx.addend = {};
  const Cost none = dry_cost(depthwise, kernels::depthwise_backward);
  const Cost none_too = dry_cost(pointwise, kernels::pointwise_backward);
  EXPECT_EQ(taken.bytes_read - none.bytes_read, 4 * 49 * 16);
  EXPECT_EQ(taken_too.bytes_read - none_too.bytes_read, 4 * 49 * 16);
  EXPECT_EQ(taken.bytes_written, none.bytes_written);
  EXPECT_EQ(taken_too.bytes_written, none_too.bytes_written);
}

TEST(Addend, MustBeLikeTheDzThatIsOverwritten) {
  const Arguments arguments;
  Cpu cpu;
  const auto refused = [&](auto change, const std::string& why) {
    DepthwiseBackward depthwise = arguments.depthwise();
    kernels::PointwiseBackward pointwise = arguments.pointwise();
    change(depthwise.dx);
    change(pointwise.dx);
    expect_refused([&] { kernels::depthwise_backward(cpu.stream(), depthwise); },
                   "depthwise_backward" + why);
    expect_refused([&] { kernels::pointwise_backward(cpu.stream(), pointwise); },
                   "pointwise_backward" + why);
  };
  EXPECT_NO_THROW(kernels::depthwise_backward(cpu.stream(), arguments.depthwise()));
  EXPECT_NO_THROW(kernels::pointwise_backward(cpu.stream(), arguments.pointwise()));
  const char* no_place = ": an addend stands in for what dz would hold; pass a dz to overwrite";
  refused([](SourceGrad& dx) { dx.how = Write::accumulate; }, no_place);
  refused([](SourceGrad& dx) { dx.dz.data = nullptr; }, no_place);
  refused([](SourceGrad& dx) { dx.addend.da.h = 5; },
          ": the addend is [1,5,7,16]; it must be [1,7,7,16] and of the type of dz");
  refused([](SourceGrad& dx) { dx.addend.da.type = DType::bf16; },
          ": the addend is [1,7,7,16]; it must be [1,7,7,16] and of the type of dz");
}

TEST(Addend, IsRefusedByKernelsThatWouldLeaveItOut) {
  const Arguments arguments;
  const Tensor& in = arguments.in;
  const kernels::Source x{in};
  Cpu cpu;
  const std::string why = ": takes no addend; write it out with mix_backward first";
  expect_refused(
      [&] {
        kernels::mix_backward(cpu.stream(), {in, 1, x, arguments.grad});
      },
      "mix_backward" + why);
  const Tensor means{arguments.memory.data(), DType::f32, 1, 1, 1, 16};
  expect_refused(
      [&] {
        kernels::pool_backward(cpu.stream(), {means, x, {}, arguments.grad});
      },
      "pool_backward" + why);
  const PhiloxKey key{1, Purpose::test, 0, 0};
  expect_refused(
      [&] {
        kernels::dropout_backward(cpu.stream(), {in, x, 0.5f, &key, arguments.grad});
      },
      "dropout_backward" + why);
  kernels::PointwiseBackward gated = arguments.pointwise();
  gated.x.gate = arguments.memory.data();
  gated.dx.dgate = arguments.sums.data();
  expect_refused([&] { kernels::pointwise_backward(cpu.stream(), gated); },
                 "pointwise_backward" + why);
}

}  // namespace
}  // namespace tunas::test
