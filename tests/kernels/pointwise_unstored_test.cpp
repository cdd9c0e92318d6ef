// Pointwise convolutions whose output is not stored: the same as those whose output is.
#include <cmath>

#include "kernels/pointwise.h"
#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::PointwiseBackward;
using kernels::PointwiseForward;

Values as_floats(Values values) {
  for (double& value : values) value = static_cast<float>(value);
  return values;
}

enum class Wanted : unsigned char { data, weights, both };  // gradients

class UnstoredCase {
 public:
  UnstoredCase(Generator& random, const Problem& problem)
      : in_{problem.n, problem.h, problem.w, problem.c.now},
        out_{problem.n, problem.h, problem.w, problem.o.now},
        c_(problem.c),
        o_(problem.o),
        decay_(random.numbers() == Numbers::real ? 0.125f : 2.0f),
        source_(draw_source(random, problem, in_)),
        w_(random.tensor(long{o_.now} * c_.now)),
        incoming_(draw_incoming(random, out_, true)),
        grad_(draw_grad(random, problem, source_)),
        dw_(random.tensor(long{o_.now} * c_.now)) {
    incoming_.y.clear();
  }

  /// Large means of the source's channels, and the coefficients that belong to its output.
  void shift(double by) {
    for (std::size_t i = 0; i < source_.y.size(); ++i) source_.y[i] += by * (1 + i % in_.c % 3);
    const Values y = output();
    const reference::Moments m = reference::moments(y, o_.now);
    const reference::Norm norm = reference::norm(Values(o_.now, 1.0), Values(o_.now, 0.0), m, 1e-3);
    const reference::Source z{out_, y, {}, {}, Act::none, {}};
    const reference::NormGrad grad = reference::norm_backward(
        norm, m.mean, reference::activated_grad(z, incoming_.dz, m.mean, norm.inv_std),
        out_.rows());
    incoming_.ca = as_floats(grad.ca);
    incoming_.cb = as_floats(grad.cb);
    incoming_.cc = as_floats(grad.cc);
  }

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const StoredFilter w(o_, c_, 1, w_);
    const Guarded mean(o_.now), variance(o_.now);
    const Tensor y{nullptr, DType::f32, out_.n, out_.h, out_.w, out_.c};
    kernels::pointwise(stream, {x.view(), w.view(), nullptr, {mean.data(), variance.data()}, y});
    return {{"mean", mean.values()}, {"variance", variance.values()}};
  }

  Results forward_reference() const {
    const reference::Moments m = reference::moments(output(), o_.now);
    return {{"mean", m.mean}, {"variance", m.variance}};
  }

  Values weights_before() const { return dw_; }

  Results backward(Stream stream, Wanted wanted = Wanted::both) const {
    const IncomingMemory dy(incoming_, out_);
    const SourceMemory x(source_);
    const StoredFilter w(o_, c_, 1, w_), dw(o_, c_, 1, dw_);
    const GradMemory dx(grad_);
    PointwiseBackward args{dy.view(), x.view(), w.view(), decay_, dx.view(), dw.view()};
    if (wanted == Wanted::data) args.dw.data = nullptr;
    if (wanted == Wanted::weights) args.dx.dz.data = nullptr;
    kernels::pointwise_backward(stream, args);
    EXPECT_TRUE(dw.beyond_untouched()) << "dw was written beyond the prefix";
    Results results = dx.results();
    results.push_back({"dw", dw.prefix()});
    return results;
  }

  Results backward_reference() const {
    reference::Incoming stored = incoming_;
    stored.y = output();
    reference::LinearGrad linear = reference::pointwise_backward(
        reference::incoming(stored), reference::read(source_), w_, c_.now, o_.now);
    for (std::size_t i = 0; i < w_.size(); ++i) linear.dw[i] += dw_[i] + decay_ * w_[i];
    Results results = grad_.expected(
        reference::source_grad(source_, grad_.total(linear.du), grad_.mean, grad_.inv_std));
    results.push_back({"dw", linear.dw});
    return results;
  }

 private:
  Values output() const {
    return reference::pointwise(reference::read(source_), w_, {}, c_.now, o_.now);
  }

  reference::Shape in_, out_;
  Width c_, o_;
  float decay_;
  reference::Source source_;
  Values w_;
  reference::Incoming incoming_;
  GradValues grad_;
  Values dw_;
};

class PointwiseUnstored : public ::testing::TestWithParam<Problem> {};

TEST_P(PointwiseUnstored, MatchesTheReference) { check_real<UnstoredCase>(GetParam()); }
TUNAS_TEST_LIBRARY(PointwiseUnstored, LibraryMatchesTheReference, check_real<UnstoredCase>);
TEST_P(PointwiseUnstored, ThreadsDoNotChangeBits) { check_threads<UnstoredCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, PointwiseUnstored,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 hw=1 c=8 o=16",
                             "pointwise n=1 hw=3 c=8/24 o=8/16 norm act=relu",
                             "pointwise n=2 hw=13 c=16/24 o=64/80 norm",
                             "pointwise n=3 h=17 w=5 c=24/40 o=72 norm act=hard_swish accumulate",
                             "pointwise n=2 hw=28 c=24 o=144/192 norm act=relu6",
                             "pointwise n=2 hw=40 c=40/80 o=120/240",
                             "pointwise n=1 hw=14 c=80/112 o=480 norm accumulate",
                             "pointwise n=2 hw=14 c=24/32 o=72 norm addend in_place",
                             "pointwise n=2 hw=9 c=200 o=96 norm act=relu",
                             "pointwise n=2 hw=7 c=256 o=24",
                         })));

// A number of rows that divides exactly keeps the means of integers exact.
class PointwiseUnstoredExact : public ::testing::TestWithParam<Problem> {};

TEST_P(PointwiseUnstoredExact, IsExactOnIntegers) { check_exact<UnstoredCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, PointwiseUnstoredExact,
                         ::testing::ValuesIn(problems({
                             "pointwise n=1 hw=8 c=8/16 o=24/40",
                             "pointwise n=1 h=4 w=8 c=16 o=16 act=relu6 accumulate",
                         })));

// Means a hundred times the deviation: what grows with them must not be seen to cancel.
TEST(PointwiseUnstored, SurvivesALargeMeanOfTheSource) {
  Generator random;
  SCOPED_TRACE(random.trace());
  UnstoredCase c(random, Problem::parse("pointwise n=2 hw=33 c=24 o=40"));
  c.shift(256);
  Cpu cpu(2);
  expect_close(c.forward(cpu.stream()), c.forward_reference());
  expect_close(c.backward(cpu.stream()), c.backward_reference(), 1e-5);
}

// Without the gradients nobody wants, the others are the same and nothing else is written.
TEST(PointwiseUnstored, UnwantedGradients) {
  Generator random;
  SCOPED_TRACE(random.trace());
  const UnstoredCase c(random, Problem::parse("pointwise n=2 hw=9 c=24/32 o=64 norm act=relu"));
  Cpu cpu(2);
  const Results both = c.backward(cpu.stream());
  Results data = c.backward(cpu.stream(), Wanted::data);
  ASSERT_EQ(data.back().values, c.weights_before());
  data.pop_back();
  expect_same_bits(data, {both.begin(), both.end() - 1});
  const Results weights = c.backward(cpu.stream(), Wanted::weights);
  expect_same_bits({weights.back()}, {both.back()});
  for (std::size_t i = 0; i + 1 < weights.size(); ++i) {
    for (double value : weights[i].values) ASSERT_TRUE(std::isnan(value)) << weights[i].name;
  }
}

TEST(PointwiseUnstored, CostsWhatItsSourceDoes) {
  constexpr double kIn = 16, kOut = 64, kRows = 2 * 28 * 28;
  const Guarded memory(1);
  const auto tensor_of = [&](bool stored, double c) {
    return Tensor{stored ? memory.data() : nullptr, DType::f32, 2, 28, 28, static_cast<int>(c)};
  };
  const Filter w{memory.data(), DType::f32, {64, 64}, {16, 16}, 1};
  const Cost forward =
      dry_cost(PointwiseForward{{tensor_of(true, kIn)}, w, nullptr, {}, tensor_of(false, kOut)},
               kernels::pointwise);
  expect_floor(forward, {2 * kIn * kIn * kRows, 4 * kIn * kRows, 0}, 4 * kIn * kOut);
  PointwiseBackward args;
  args.dy = {tensor_of(true, kOut), tensor_of(false, kOut), memory.data(), memory.data(),
             memory.data()};
  args.x.y = args.dx.dz = tensor_of(true, kIn);
  args.w = args.dw = w;
  expect_floor(dry_cost(args, kernels::pointwise_backward),
               {4 * kIn * (kIn + kOut) * kRows, 4 * (kIn + kOut) * kRows, 4 * kIn * kRows},
               4 * kIn * kOut);
}

TEST(PointwiseUnstored, RefusesWhatNeedsTheOutput) {
  const reference::Shape in{2, 3, 3, 16}, out{2, 3, 3, 24}, wide{2, 3, 3, 264};
  const Guarded x(Values(in.size(), 1.0)), wide_x(Values(wide.size(), 1.0)), dz(out.size()),
      w(Values(24 * 264, 1.0)), channels(Values(264, 1.0));
  const Tensor y{nullptr, DType::f32, out.n, out.h, out.w, out.c};
  const Filter filter{w.data(), DType::f32, {24, 24}, {16, 16}, 1};
  Cpu cpu;
  const auto forward = [&](const PointwiseForward& args) {
    kernels::pointwise(cpu.stream(), args);
  };
  const PointwiseForward moments{
      {tensor(x, in)}, filter, nullptr, {channels.data(), channels.data()}, y};
  PointwiseForward biased = moments, nothing = moments, gated = moments, large = moments;
  biased.bias = channels.data();
  nothing.moments = {};
  gated.x.gate = channels.data();
  large.x.y = tensor(wide_x, wide);
  large.w.in = {264, 264};
  EXPECT_NO_THROW(forward(moments));
  for (const PointwiseForward& args : {biased, nothing, gated, large}) {
    EXPECT_THROW(forward(args), Error);
  }
  PointwiseBackward backward;
  backward.dy = {tensor(dz, out), y, channels.data(), channels.data(), channels.data()};
  backward.x = moments.x;
  backward.w = filter;
  EXPECT_NO_THROW(kernels::pointwise_backward(cpu.stream(), backward));
  PointwiseBackward with_dbias = backward, deferred = backward, without_dz = backward;
  with_dbias.dbias = channels.data();
  deferred.dy.deferred.scale = deferred.dy.deferred.shift = channels.data();
  without_dz.dy.dz.data = nullptr;
  for (const PointwiseBackward& args : {with_dbias, deferred, without_dz}) {
    EXPECT_THROW(kernels::pointwise_backward(cpu.stream(), args), Error);
  }
}

}  // namespace
}  // namespace tunas::test
