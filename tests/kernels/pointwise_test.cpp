// Pointwise convolution and the fully connected layer, forward and backward.
#include "kernels/pointwise.h"

#include <cmath>

#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::PointwiseBackward;
using kernels::PointwiseForward;

class PointwiseCase {
 public:
  PointwiseCase(Generator& random, const Problem& problem)
      : in_{problem.n, problem.h, problem.w, problem.c.now},
        out_{problem.n, problem.h, problem.w, round_up_8(problem.o.now)},
        c_(problem.c),
        o_(problem.o),
        moments_(random.numbers() == Numbers::real && !problem.bias),
        decay_(random.numbers() == Numbers::real ? 0.125f : 2.0f),
        source_(draw_source(random, problem, in_)),
        w_(random.tensor(long{o_.now} * c_.now)),
        incoming_(draw_incoming(random, problem, out_)),
        grad_(draw_grad(random, problem, source_)),
        dw_(random.tensor(long{o_.now} * c_.now)) {
    if (problem.bias) {
      bias_ = random.tensor(o_.now);
      dbias_ = random.tensor(o_.now);
    }
    for (long i = 0; i < out_.size(); ++i) {  // as softmax_xent leaves the columns of no class
      if (i % out_.c >= o_.now && !incoming_.dz.empty()) incoming_.dz[i] = 0;
    }
  }

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const StoredFilter w(o_, c_, 1, w_);
    const Guarded bias(bias_), y(out_.size()), mean(moments_ ? o_.now : 0),
        variance(moments_ ? o_.now : 0);
    kernels::pointwise(stream, {x.view(),
                                w.view(),
                                bias.optional(),
                                {mean.optional(), variance.optional()},
                                tensor(y, out_)});
    Results results{{"y", y.values()}};
    if (moments_) append(results, {{"mean", mean.values()}, {"variance", variance.values()}});
    return results;
  }

  Results forward_reference() const {
    const Values y = reference::pointwise(reference::read(source_), w_, bias_, c_.now, o_.now);
    Results results{{"y", Values(out_.size(), 0.0)}};
    for (std::size_t i = 0; i < y.size(); ++i) {
      results[0].values[i / o_.now * out_.c + i % o_.now] = y[i];
    }
    if (moments_) {
      const reference::Moments m = reference::moments(y, o_.now);
      append(results, {{"mean", m.mean}, {"variance", m.variance}});
    }
    return results;
  }

  Results backward(Stream stream, Fusion fusion = Fusion::fused) const {
    const IncomingMemory dy(incoming_, out_);
    const SourceMemory x(source_);
    const StoredFilter w(o_, c_, 1, w_), dw(o_, c_, 1, dw_);
    const GradMemory dx(grad_);
    const Guarded dbias(dbias_);
    PointwiseBackward args{dy.view(), x.view(),  w.view(),        decay_,
                           dx.view(), dw.view(), dbias.optional()};
    compose(fusion, stream, args.x, args.dx);
    kernels::pointwise_backward(stream, args);
    EXPECT_TRUE(dw.beyond_untouched()) << "dw was written beyond the prefix";
    Results results = dx.results();
    results.push_back({"dw", dw.prefix()});
    if (!dbias_.empty()) results.push_back({"dbias", dbias.values()});
    return results;
  }

  Results backward_reference() const {
    const Values padded = reference::incoming(incoming_);
    Values dy;
    for (std::size_t i = 0; i < padded.size(); ++i) {
      if (static_cast<int>(i % out_.c) < o_.now) dy.push_back(padded[i]);
    }
    reference::LinearGrad linear =
        reference::pointwise_backward(dy, reference::read(source_), w_, c_.now, o_.now);
    for (std::size_t i = 0; i < w_.size(); ++i) linear.dw[i] += dw_[i] + decay_ * w_[i];
    Results results = grad_.expected(
        reference::source_grad(source_, grad_.total(linear.du), grad_.mean, grad_.inv_std));
    results.push_back({"dw", linear.dw});
    for (std::size_t i = 0; i < dbias_.size(); ++i) linear.dbias[i] += dbias_[i];
    if (!dbias_.empty()) results.push_back({"dbias", linear.dbias});
    return results;
  }

 private:
  reference::Shape in_, out_;
  Width c_, o_;
  bool moments_;
  float decay_;
  reference::Source source_;
  Values w_, bias_;
  reference::Incoming incoming_;
  GradValues grad_;
  Values dw_, dbias_;
};

class Pointwise : public ::testing::TestWithParam<Problem> {};

TEST_P(Pointwise, MatchesTheReference) { check_real<PointwiseCase>(GetParam()); }
TUNAS_TEST_LIBRARY(Pointwise, LibraryMatchesTheReference, check_real<PointwiseCase>);
INSTANTIATE_TEST_SUITE_P(Shapes, Pointwise,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 hw=7 c=8 o=8",
                             "pointwise n=1 hw=1 c=8/64 o=8/16",
                             "pointwise n=2 hw=9 c=8/48 o=16/64 norm act=relu",
                             "pointwise n=2 hw=13 c=40/96 o=240/512 norm act=hard_swish accumulate",
                             "pointwise n=3 hw=15 c=96 o=24/40 norm act=relu6",
                             "pointwise n=2 h=5 w=11 c=16/24 o=64 norm act=sigmoid accumulate",
                             "pointwise n=2 hw=7 c=24 o=72/80 norm act=hard_sigmoid",
                             "pointwise n=2 hw=9 c=24 o=72/80 norm",
                             "pointwise n=2 hw=14 c=72/240 o=40 norm act=hard_swish gate",
                             "pointwise n=3 hw=7 c=120/480 o=8/80 norm act=relu gate",
                             "pointwise n=1 hw=9 c=16 o=24/32 act=relu6 gate",
                             "pointwise n=2 hw=14 c=72/240 o=40 norm act=hard_swish gate slopes",
                             "pointwise n=3 hw=7 c=120 o=8 norm act=relu6 gate slopes accumulate",
                             "pointwise n=2 hw=33 c=104/200 o=120/136 norm act=relu6 accumulate",
                             "pointwise n=2 hw=9 c=24 o=40/64 norm act=hard_swish deferred",
                             "pointwise n=3 hw=15 c=40 o=24 norm act=relu6 deferred spread",
                             "pointwise n=2 hw=33 c=104 o=120 norm act=relu spread accumulate",
                             "pointwise n=3 hw=14 c=72 o=40 norm act=relu gate slopes spread",
                             "pointwise n=2 hw=7 c=16 o=200 norm deferred",
                             "pointwise n=2 hw=9 c=24/32 o=40 bias act=relu accumulate",
                         })));

// Another reader of the input left its gradient to this one.
class PointwiseAddend : public ::testing::TestWithParam<Problem> {};

TEST_P(PointwiseAddend, MatchesTheReference) { check_real<PointwiseCase>(GetParam()); }
TEST_P(PointwiseAddend, DoesNotDependOnThreads) { check_threads<PointwiseCase>(GetParam()); }
TEST_P(PointwiseAddend, LeavesWhatItReplaces) { check_composition<PointwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(
    Shapes, PointwiseAddend,
    ::testing::ValuesIn(problems({
        "pointwise n=1 hw=1 c=8 o=8 addend",
        "pointwise n=2 hw=13 c=24/40 o=96/144 norm addend",
        "pointwise n=2 hw=33 c=104/200 o=120/136 norm act=relu6 addend in_place",
        "pointwise n=3 hw=9 c=240 o=40 norm act=relu deferred spread addend",
    })));

// Squeeze-excite's two layers and the classifier.
class FullyConnected : public ::testing::TestWithParam<Problem> {};

TEST_P(FullyConnected, MatchesTheReference) { check_real<PointwiseCase>(GetParam()); }
TUNAS_TEST_LIBRARY(FullyConnected, LibraryMatchesTheReference, check_real<PointwiseCase>);
TEST_P(FullyConnected, IsExactOnIntegers) { check_exact<PointwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, FullyConnected,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 c=72/144 o=24/40 bias",
                             "pointwise n=5 c=24/40 o=72/144 bias act=relu",
                             "pointwise n=7 c=64/1024 o=1001 bias",
                             "pointwise n=16 c=1280 o=1001 bias",
                             "pointwise n=3 c=40 o=10 bias",
                             "pointwise n=3 c=40 o=1 bias accumulate",
                         })));

class PointwiseExact : public ::testing::TestWithParam<Problem> {};

TEST_P(PointwiseExact, IsExactOnIntegers) { check_exact<PointwiseCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, PointwiseExact,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 hw=7 c=8 o=8",
                             "pointwise n=2 hw=13 c=24/40 o=96/144 norm act=relu accumulate",
                             "pointwise n=1 hw=28 c=96/144 o=24/40 norm act=relu6",
                             "pointwise n=2 hw=9 c=72/96 o=16/24 norm act=relu gate",
                             "pointwise n=3 hw=9 c=72 o=16 norm act=relu gate slopes",
                             "pointwise n=3 hw=9 c=16 o=24 norm act=relu6 deferred spread",
                             "pointwise n=2 hw=15 c=240/480 o=80/160",
                         })));

class PointwiseThreads : public ::testing::TestWithParam<Problem> {};

TEST_P(PointwiseThreads, DoNotChangeBits) { check_threads<PointwiseCase>(GetParam()); }
TUNAS_TEST_LIBRARY(PointwiseThreads, DoNotChangeBitsOfTheLibrary, check_threads<PointwiseCase>);
INSTANTIATE_TEST_SUITE_P(Shapes, PointwiseThreads,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 hw=7 c=8 o=8 norm act=relu",
                             "pointwise n=3 hw=56 c=24/32 o=144/192 norm act=relu6",
                             "pointwise n=4 hw=28 c=240/512 o=40/64 norm act=hard_swish gate",
                             "pointwise n=4 hw=28 c=120 o=40 norm act=relu gate slopes spread",
                             "pointwise n=5 hw=7 c=960/1024 o=160 norm act=relu accumulate",
                             "pointwise n=32 c=1280 o=1001 bias",
                             "pointwise n=32 c=480 o=120 bias act=relu",
                         })));

// The spread of values around a large mean must survive: never E[y^2] - E[y]^2.
TEST(Pointwise, MomentsAroundALargeMean) {
  Generator random;
  SCOPED_TRACE(random.trace());
  const reference::Shape in{2, 33, 31, 16}, out{2, 33, 31, 24};
  reference::Source source{in, random.between(in.size(), -1, 1), {}, {}, Act::none, {}};
  for (std::size_t i = 0; i < source.y.size(); i += in.c) source.y[i] = 4096;
  Values w = random.between(long{in.c} * out.c, -1, 1);
  for (std::size_t i = 0; i < w.size(); i += in.c) w[i] = 1;
  const SourceMemory x(source);
  const StoredFilter filter({24, 24}, {16, 16}, 1, w);
  const Guarded y(out.size()), mean(24), variance(24);
  Cpu cpu(2);
  kernels::pointwise(
      cpu.stream(),
      {x.view(), filter.view(), nullptr, {mean.data(), variance.data()}, tensor(y, out)});
  const reference::Moments want = reference::moments(y.values(), 24);
  expect_close("mean", mean.values(), want.mean, 1e-6);
  expect_close("variance", variance.values(), want.variance, 1e-4);
}

// Without the gradients nobody wants, the others are the same and nothing else is written.
TEST(Pointwise, UnwantedGradients) {
  Generator random;
  const Problem problem = Problem::parse("pointwise n=2 hw=9 c=24/32 o=16/40 norm act=relu");
  const reference::Shape in{2, 9, 9, 24}, out{2, 9, 9, 16};
  const reference::Source source = draw_source(random, problem, in);
  const reference::Incoming incoming = draw_incoming(random, out, true);
  const GradValues grad = draw_grad(random, problem, source);
  const Values w = random.tensor(16 * 24), zero(16 * 24, 0.0);
  const IncomingMemory dy(incoming, out);
  const SourceMemory x(source);
  const StoredFilter filter({40, 16}, {32, 24}, 1, w), dw_both({40, 16}, {32, 24}, 1, zero),
      dw_alone({40, 16}, {32, 24}, 1, zero);
  const GradMemory dx_both(grad), dx_alone(grad), dx_none(grad);
  Cpu cpu(2);
  PointwiseBackward args{dy.view(), x.view(), filter.view(), 0, dx_both.view(), dw_both.view()};
  kernels::pointwise_backward(cpu.stream(), args);
  args.dx = dx_alone.view();
  args.dw.data = nullptr;
  kernels::pointwise_backward(cpu.stream(), args);
  expect_same_bits(dx_alone.results(), dx_both.results());
  args.dx = dx_none.view();
  args.dx.dz.data = nullptr;
  args.dw = dw_alone.view();
  kernels::pointwise_backward(cpu.stream(), args);
  expect_same_bits({{"dw", dw_alone.prefix()}}, {{"dw", dw_both.prefix()}});
  for (const Named& named : dx_none.results()) {
    for (double value : named.values) ASSERT_TRUE(std::isnan(value)) << named.name;
  }
}

TEST(Pointwise, DryStreamAddsTheFloor) {
  const Guarded x(2 * 7 * 7 * 240), y(2 * 7 * 7 * 40), w(40 * 240), dx(x.size()), dw(40 * 240);
  const Tensor in{x.data(), DType::f32, 2, 7, 7, 240}, out{y.data(), DType::f32, 2, 7, 7, 40};
  const Filter filter{w.data(), DType::f32, {40, 40}, {240, 240}, 1};
  const double flops = 2.0 * 2 * 7 * 7 * 240 * 40;
  const double x_bytes = 4.0 * 2 * 7 * 7 * 240, y_bytes = 4.0 * 2 * 7 * 7 * 40;
  const double w_bytes = 4.0 * 40 * 240;
  const Cost forward =
      dry_cost(PointwiseForward{{in}, filter, nullptr, {}, out}, kernels::pointwise);
  expect_floor(forward, {flops, x_bytes, y_bytes}, w_bytes);
  PointwiseBackward args;
  args.dy.dz = out;
  args.x.y = in;
  args.w = filter;
  args.dx.dz = {dx.data(), DType::f32, 2, 7, 7, 240};
  args.dw = {dw.data(), DType::f32, {40, 40}, {240, 240}, 1};
  const Cost backward = dry_cost(args, kernels::pointwise_backward);
  expect_floor(backward, {2 * flops, y_bytes + x_bytes, x_bytes}, w_bytes);
  EXPECT_TRUE(y.untouched() && dx.untouched() && dw.untouched());
}

TEST(Pointwise, RefusesWrongShapes) {
  const Guarded x(Values(2 * 9 * 16, 1.0)), y(2 * 9 * 24), w(Values(24 * 16, 1.0));
  const Tensor in{x.data(), DType::f32, 2, 3, 3, 16}, out{y.data(), DType::f32, 2, 3, 3, 24};
  const Filter filter{w.data(), DType::f32, {24, 24}, {16, 16}, 1};
  Cpu cpu;
  const auto run = [&](const Tensor& from, const Filter& with, const Tensor& to) {
    kernels::pointwise(cpu.stream(), {{from}, with, nullptr, {}, to});
  };
  Tensor narrow = in, small = out, half = in;
  narrow.c = 8;
  small.h = 2;
  half.type = DType::bf16;
  Filter wide = filter;
  wide.in = {8, 16};
  EXPECT_NO_THROW(run(in, filter, out));
  EXPECT_THROW(run(narrow, filter, out), Error);
  EXPECT_THROW(run(in, filter, small), Error);
  EXPECT_THROW(run(half, filter, out), Error);
  EXPECT_THROW(run(in, wide, out), Error);
}

TEST(Pointwise, RefusesHalfOfADeferredGradient) {
  const Guarded x(Values(2 * 9 * 16, 1.0)), y(Values(2 * 9 * 24, 1.0)), w(Values(24 * 16, 1.0)),
      channels(Values(2 * 2 * 24, 1.0)), dx(2 * 9 * 16);
  Cpu cpu;
  PointwiseBackward whole;
  whole.dy.y = whole.dy.dz = {y.data(), DType::f32, 2, 3, 3, 24};
  whole.dy.ca = whole.dy.cb = whole.dy.cc = channels.data();
  whole.dy.deferred.scale = whole.dy.deferred.shift = channels.data();
  whole.dy.deferred.spread = channels.data();
  whole.x.y = whole.dx.dz = {x.data(), DType::f32, 2, 3, 3, 16};
  whole.dx.dz.data = dx.data();
  whole.w = {w.data(), DType::f32, {24, 24}, {16, 16}, 1};
  PointwiseBackward spread = whole, nothing = whole, shiftless = whole, scaleless = whole,
                    raw = whole, slopes = whole;
  spread.dy.dz.data = nullptr;
  nothing.dy.dz.data = nullptr;
  nothing.dy.deferred.spread = nullptr;
  shiftless.dy.deferred.shift = nullptr;
  scaleless.dy.deferred.scale = scaleless.dy.deferred.shift = nullptr;
  raw.dy.ca = raw.dy.cb = raw.dy.cc = nullptr;
  slopes.dx.slope_sums = dx.data();
  for (const PointwiseBackward& args : {whole, spread}) {
    EXPECT_NO_THROW(kernels::pointwise_backward(cpu.stream(), args));
  }
  for (const PointwiseBackward& args : {nothing, shiftless, scaleless, raw, slopes}) {
    EXPECT_THROW(kernels::pointwise_backward(cpu.stream(), args), Error);
  }
  const double dz_bytes = 4 * 2 * 9 * 24;
  EXPECT_EQ(dry_cost(whole, kernels::pointwise_backward).bytes() -
                dry_cost(spread, kernels::pointwise_backward).bytes(),
            dz_bytes);
}

}  // namespace
}  // namespace tunas::test
