// Depthwise convolution, forward and backward.
#include "kernels/depthwise.h"

#include <cmath>

#include "kernels/pointwise.h"
#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::DepthwiseBackward;
using kernels::DepthwiseForward;

class DepthwiseCase {
 public:
  DepthwiseCase(Generator& random, const Problem& problem)
      : problem_(problem),
        in_{problem.n, problem.h, problem.w, problem.c.now},
        c_(problem.c),
        window_(window(problem)),
        out_{problem.n, window_.out_h, window_.out_w, problem.c.now},
        moments_(random.numbers() == Numbers::real),
        decay_(random.numbers() == Numbers::real ? 0.125f : 2.0f),
        expansion_(draw_expansion(random, problem)),
        source_(draw_source(random, problem, in_)),
        w_(random.tensor(long{problem.k} * problem.k * c_.now)),
        incoming_(draw_incoming(random, problem, out_)),
        grad_(draw_grad(random, problem, source_)),
        dw_(random.tensor(static_cast<long>(w_.size()))) {
    if (expansion_.w.empty()) return;
    source_.y = reference::pointwise(reference::read(expansion_.x), expansion_.w, {}, problem.e.now,
                                     c_.now);
  }

  static reference::Window window(const Problem& problem) {
    const Axis rows = pad_axis(problem.padding, problem.h, problem.k, problem.s);
    const Axis columns = pad_axis(problem.padding, problem.w, problem.k, problem.s);
    return {problem.k, problem.s, rows.before, columns.before, rows.out, columns.out};
  }

  /// What an expansion is defined by: the same problem with the x that pointwise stores.
  DepthwiseCase stored(Stream stream) const {
    const ExpansionMemory expansion(expansion_, problem_);
    const kernels::Expansion view = expansion.view();
    const Guarded x(in_.size());
    kernels::pointwise(stream, {view.x, view.w, nullptr, {}, tensor(x, in_)});
    DepthwiseCase result = *this;
    result.expansion_ = {};
    result.problem_.e = {0, 0};
    result.source_.y = x.values();
    return result;
  }

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const ExpansionMemory expansion(expansion_, problem_);
    const StoredFilter w({1, 1}, c_, window_.k, w_);
    const Guarded y(out_.size()), mean(moments_ ? c_.now : 0), variance(moments_ ? c_.now : 0);
    DepthwiseForward args{x.view(),        w.view(),        window_.stride,
                          window_.top,     window_.left,    {mean.optional(), variance.optional()},
                          tensor(y, out_), expansion.view()};
    if (args.expansion.w) args.x.y.data = nullptr;
    kernels::depthwise(stream, args);
    Results results{{"y", y.values()}};
    if (moments_) append(results, {{"mean", mean.values()}, {"variance", variance.values()}});
    return results;
  }

  Results forward_reference() const {
    const Values y = reference::depthwise(reference::read(source_), in_, w_, window_);
    Results results{{"y", y}};
    if (moments_) {
      const reference::Moments m = reference::moments(y, c_.now);
      append(results, {{"mean", m.mean}, {"variance", m.variance}});
    }
    return results;
  }

  Results backward(Stream stream) const {
    const IncomingMemory dy(incoming_, out_);
    const SourceMemory x(source_);
    const ExpansionMemory expansion(expansion_, problem_);
    const StoredFilter w({1, 1}, c_, window_.k, w_), dw({1, 1}, c_, window_.k, dw_);
    const GradMemory dx(grad_);
    DepthwiseBackward args{dy.view(),    x.view(), w.view(),  window_.stride, window_.top,
                           window_.left, decay_,   dx.view(), dw.view(),      expansion.view()};
    if (args.expansion.w) args.x.y.data = nullptr;
    const Guarded product(problem_.chained ? expansion_.x.y.size() : 0);
    const Guarded outer(problem_.chained ? expansion_.w.size() : 0);
    if (problem_.chained) {
      args.dx.dz.data = nullptr;
      args.expansion_grad = {tensor(product, expansion_.x.shape), outer.data()};
    }
    kernels::depthwise_backward(stream, args);
    EXPECT_TRUE(dw.beyond_untouched()) << "dw was written beyond the prefix";
    Results results = dx.results();
    results.push_back({"dw", dw.prefix()});
    if (problem_.chained) {
      results.erase(results.begin());  // dz, which is not written
      append(results, {{"product", product.values()}, {"outer", outer.values()}});
    }
    return results;
  }

  Results backward_reference() const {
    reference::LinearGrad linear = reference::depthwise_backward(
        reference::incoming(incoming_), reference::read(source_), in_, w_, window_);
    for (std::size_t i = 0; i < w_.size(); ++i) linear.dw[i] += dw_[i] + decay_ * w_[i];
    const reference::SourceGrad dx =
        reference::source_grad(source_, linear.du, grad_.mean, grad_.inv_std);
    Results results = grad_.expected(dx);
    results.push_back({"dw", linear.dw});
    if (problem_.chained) {
      results.erase(results.begin());
      append(results, chained_reference(dx.dz));
    }
    return results;
  }

  /// The two parts of an expansion's gradient, from the gradient dz of what it makes.
  Results chained_reference(const Values& dz) const {
    const Values u = reference::read(expansion_.x), &w = expansion_.w;
    Values scaled = dz;
    for (std::size_t i = 0; !source_.scale.empty() && i < dz.size(); ++i) {
      scaled[i] *= source_.scale[i % c_.now];
    }
    const int e = expansion_.x.shape.c;
    return {{"product", reference::pointwise_backward(scaled, u, w, e, c_.now).du},
            {"outer", reference::pointwise_backward(dz, u, w, e, c_.now).dw}};
  }

 private:
  Problem problem_;
  reference::Shape in_;
  Width c_;
  reference::Window window_;
  reference::Shape out_;
  bool moments_;
  float decay_;
  reference::Expansion expansion_;
  reference::Source source_;
  Values w_;
  reference::Incoming incoming_;
  GradValues grad_;
  Values dw_;
};

// Every kernel size, stride, padding, odd and even side, with narrow, middle and full widths.
std::vector<Problem> every_geometry(const char* rest) {
  std::vector<Problem> result;
  for (int k : {3, 5, 7}) {
    for (int s : {1, 2}) {
      for (const char* pad : {"same", "symmetric"}) {
        for (int hw : {7, 8, 9, 13, 14, 15}) {
          result.push_back(Problem::parse("depthwise k=" + std::to_string(k) +
                                          " s=" + std::to_string(s) + " pad=" + pad +
                                          " hw=" + std::to_string(hw) + " " + rest));
        }
      }
    }
  }
  return result;
}

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

// A backward pass that goes on through the expansion.
class DepthwiseChained : public ::testing::TestWithParam<Problem> {};

TEST_P(DepthwiseChained, MatchesTheReference) { check_real<DepthwiseCase>(GetParam()); }
TEST_P(DepthwiseChained, DoesNotDependOnThreads) { check_threads<DepthwiseCase>(GetParam()); }
TUNAS_TEST_LIBRARY(DepthwiseChained, LibraryMatchesTheReference, check_real<DepthwiseCase>);
INSTANTIATE_TEST_SUITE_P(
    Shapes, DepthwiseChained,
    ::testing::ValuesIn(problems({
        "depthwise n=1 hw=7 e=8 c=8 k=3 chained",
        "depthwise n=2 hw=16 e=16/24 c=64/96 k=3 s=2 norm act=relu chained",
        "depthwise n=3 h=9 w=13 e=24/32 c=72/80 k=5 norm act=relu6 deferred chained",
        "depthwise n=2 hw=14 e=40 c=240/512 k=5 s=2 pad=symmetric norm act=hard_swish chained",
        "depthwise n=40 hw=7 e=8/16 c=264/320 k=3 norm act=hard_swish spread chained",
        "depthwise n=2 hw=56 e=24 c=144 k=7 norm act=relu6 chained",
    })));

TEST(Depthwise, IsExactOnIntegersWithAnExpansionAndWhatIsDeferred) {
  for (const char* chained : {"", " chained"}) {
    const std::string rest = "n=1 e=8/16 c=8/24 norm act=relu deferred spread";
    for (const Problem& problem : every_geometry((rest + chained).c_str())) {
      check_exact<DepthwiseCase>(problem);
    }
  }
}

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

TEST(Depthwise, RefusesAnExpansionsGradientWithoutItsPlace) {
  Generator random;
  const Problem problem = Problem::parse("depthwise n=2 hw=7 e=8 c=16 k=3 norm act=relu");
  const reference::Expansion values = draw_expansion(random, problem);
  const ExpansionMemory expansion(values, problem);
  const Guarded dy(Values(2 * 49 * 16, 1.0)), w(Values(9 * 16, 1.0));
  const Guarded product(2 * 49 * 8), outer(16 * 8);
  const Tensor out{dy.data(), DType::f32, 2, 7, 7, 16};
  const Filter filter{w.data(), DType::f32, {1, 1}, {16, 16}, 3};
  DepthwiseBackward args;
  args.dy.dz = args.x.y = out;
  args.x.y.data = nullptr;
  args.w = args.dw = filter;
  args.top = args.left = 1;
  args.expansion = expansion.view();
  args.expansion_grad = {{product.data(), DType::f32, 2, 7, 7, 8}, outer.data()};
  Cpu cpu;
  const auto refuses = [&](auto change) {
    DepthwiseBackward changed = args;
    change(changed);
    EXPECT_THROW(kernels::depthwise_backward(cpu.stream(), changed), Error);
  };
  EXPECT_NO_THROW(kernels::depthwise_backward(cpu.stream(), args));
  refuses([](DepthwiseBackward& a) { a.expansion_grad.outer = nullptr; });
  refuses([](DepthwiseBackward& a) { a.expansion_grad.product.c = 16; });
  refuses([](DepthwiseBackward& a) { a.dx.how = Write::accumulate; });
  refuses([](DepthwiseBackward& a) { a.dx.dz = a.dy.dz; });
  refuses([](DepthwiseBackward& a) {
    a.expansion = {};
    a.x.y = a.dy.dz;
  });
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
