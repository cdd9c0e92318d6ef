// Depthwise on the GPU against loops in double: every window, both strides and paddings, widths
// that fill no warp, odd sizes, one image, a filter stored wider than it is used; with an x that an
// expansion makes (also against the two kernels that it replaces) and with deferred gradients.
#include "kernels/depthwise.h"

#include <optional>

#include "kernels/mix.h"
#include "kernels/pointwise.h"
#include "tests/cuda/problems.h"

namespace tunas::testing {
namespace {

/// Calls f(output index, input index, tap index) for every product of the convolution.
template <class F>
void each_product(const DepthwiseProblem& p, const F& f) {
  const Axis rows = p.rows(), columns = p.columns();
  for (int n = 0; n < p.n; ++n)
    for (int y = 0; y < rows.out; ++y)
      for (int x = 0; x < columns.out; ++x)
        for (int i = 0; i < p.k; ++i)
          for (int j = 0; j < p.k; ++j) {
            const int h = y * p.stride + i - rows.before, w = x * p.stride + j - columns.before;
            if (h < 0 || h >= p.h || w < 0 || w >= p.w) continue;
            const std::size_t out = ((std::size_t(n) * rows.out + y) * columns.out + x) * p.c;
            const std::size_t in = ((std::size_t(n) * p.h + h) * p.w + w) * p.c;
            const std::size_t tap = std::size_t(i * p.k + j) * p.c_max;
            for (int c = 0; c < p.c; ++c) f(out + c, in + c, tap + c);
          }
}

}  // namespace

void run(CudaContext& context, const DepthwiseProblem& p) {
  SCOPED_TRACE(::testing::Message()
               << "n=" << p.n << " hw=" << p.h << "x" << p.w << " c=" << p.c << "/" << p.c_max
               << " k=" << p.k << " s=" << p.stride << (p.type == DType::bf16 ? " bf16" : " f32")
               << " expanded=" << p.expanded);
  SourceField x(p.type, p.n, p.h, p.w, p.c, 1, p.act);
  std::optional<ExpansionField> expansion;
  if (p.expanded) expansion.emplace(x, p.expanded, 60, p.expanded_act);
  const Field w = Field::random(p.type, p.k, p.k, 1, p.c_max, 5);
  const Filter filter{w.tensor().data, p.type, {}, {p.c_max, p.c}, p.k};
  const Axis rows = p.rows(), columns = p.columns();
  Values u(x.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = x.u(i);

  kernels::Source source = x.args();
  if (expansion) source.y.data = nullptr;
  const kernels::Expansion made = expansion ? expansion->args() : kernels::Expansion{};
  Field y(p.type, p.n, rows.out, columns.out, p.c);
  Field mean(DType::f32, 1, 1, 1, p.c), variance(DType::f32, 1, 1, 1, p.c);
  kernels::DepthwiseForward forward{
      source,     filter, p.stride, rows.before, columns.before, {mean.f32(), variance.f32()},
      y.tensor(), made};
  kernels::cuda::depthwise(context, forward);
  Values want(y.tensor().size());
  each_product(p, [&](auto o, auto i, auto t) { want[o] += w.values[t] * u[i]; });
  expect_near(y, want, limit(p.type), "y");
  check_moments(want, p.c, mean, variance, limit_of(context, p.type, 1e-5));

  if (expansion) {  // backward sees x as it would be stored
    x.y.upload();
    for (std::size_t i = 0; i < u.size(); ++i) u[i] = x.u(i);
  }
  const IncomingField dy(p.type, p.n, rows.out, columns.out, p.c, 20, p.normalised, p.left);
  const Values d = dy.dy();
  GradField dx(x, 30, p.how, p.addend);
  Field dw = Field::random(DType::f32, p.k, p.k, 1, p.c_max, 40);
  const float decay = 0.25f;
  kernels::DepthwiseBackward backward{
      dy.args(), source,      filter,
      p.stride,  rows.before, columns.before,
      decay,     dx.args(),   {dw.tensor().data, DType::f32, {}, {p.c_max, p.c}, p.k},
      made};
  kernels::cuda::depthwise_backward(context, backward);
  Values du(u.size()), want_dw = dw.values;
  each_product(p, [&](auto o, auto i, auto t) {
    du[i] += w.values[t] * d[o];
    want_dw[t] += d[o] * u[i];
  });
  for (std::size_t t = 0; t < want_dw.size(); ++t) {
    if (static_cast<int>(t % p.c_max) < p.c) want_dw[t] += decay * w.values[t];
  }
  dx.check(du, limit_of(context, p.type, limit(p.type)));
  // An expansion in float may round to the other neighbour than one in double.
  const double rounded = p.expanded && p.type == DType::bf16 ? 3e-4 : 1e-5;
  expect_near(dw, want_dw, limit_of(context, p.type, rounded), "dw");
  const Values got = dw.download();  // beyond the prefix: the very bits that were there
  for (std::size_t t = 0; t < got.size(); ++t) {
    if (static_cast<int>(t % p.c_max) >= p.c) {
      EXPECT_EQ(got[t], dw.values[t]);
    }
  }
}

namespace {

void run(const DepthwiseProblem& p) { run(gpu(), p); }

TEST(CudaDepthwise, EveryWindowStrideAndPadding) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2})
        for (const Padding padding : {Padding::same, Padding::symmetric})
          run({2, 15, 13, 24, 40, k, stride, padding, Act::relu6, type});
}

TEST(CudaDepthwise, WidthsAndSizes) {
  for (const int k : {3, 5, 7})
    for (const int stride : {1, 2}) {
      run({1, 1, 1, 8, 8, k, stride});
      run({1, 3, 30, 8, 960, k, stride, Padding::same, Act::hard_swish});
      run({2, 14, 14, 184, 200, k, stride, Padding::same, Act::hard_swish});
      run({3, 7, 7, 960, 960, k, stride, Padding::symmetric, Act::relu});
      run({2, 28, 28, 72, 72, k, stride, Padding::same, Act::none});
      run({2, 8, 8, 536, 536, k, stride, Padding::same, Act::sigmoid});
    }
}

TEST(CudaDepthwise, Accumulates) {
  for (const int stride : {1, 2})
    run({2, 10, 9, 40, 48, 3, stride, Padding::same, Act::relu, DType::bf16, Write::accumulate});
}

/// Tiles of few pixels, more of them than there are blocks.
TEST(CudaDepthwise, BlocksThatTakeSeveralTiles) {
  run({5001, 1, 8, 8, 8, 3, 1});
  run({5001, 2, 3, 8, 8, 5, 2});
}

TEST(CudaDepthwise, MakesDeferredGradients) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2}) {
        DepthwiseProblem p{3, 9, 12, 40, 48, k, stride, Padding::same, Act::relu6, type};
        for (const Act act : {Act::none, Act::relu, Act::relu6, Act::hard_swish}) {
          p.left = {true, act, 0.5f};
          run(p);
        }
        p.left = {true, Act::hard_swish, 2, false};
        run(p);
        p.left = {true, Act::relu, 1, true, false};
        run(p);
        p.normalised = false;
        run(p);
      }
}

TEST(CudaDepthwise, AddsWhatAnotherReaderLeft) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2})
        for (const Addend addend : {Addend::elsewhere, Addend::in_place}) {
          DepthwiseProblem p{2, 15, 13, 24, 40, k, stride, Padding::same, Act::hard_swish, type};
          p.addend = addend;
          run(p);
          p.expanded = 16;
          p.act = Act::relu6;
          run(p);
        }
}

/// What the addend replaces: mix_backward writes dz, and the convolution adds to it.
TEST(CudaDepthwise, LeavesWhatAPassForTheAddendWouldLeave) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7}) {
      const SourceField x(type, 2, 14, 9, 40, 1, Act::relu6);
      const GradField fused(x, 30, Write::overwrite, Addend::elsewhere), composed(x, 30);
      const Field w = Field::random(type, k, k, 1, 40, 5);
      const Field dw = Field::random(DType::f32, k, k, 1, 40, 40);
      const IncomingField dy(type, 2, 14, 9, 40, 20);
      kernels::DepthwiseBackward args{
          dy.args(), x.args(),     {w.tensor().data, type, {}, {40, 40}, k},       1, k / 2, k / 2,
          0,         fused.args(), {dw.tensor().data, DType::f32, {}, {40, 40}, k}};
      kernels::cuda::depthwise_backward(gpu(), args);
      const kernels::Addend left = args.dx.addend;
      args.dx = composed.args();
      kernels::cuda::mix_backward(gpu(), {left.da, left.weight, args.x, args.dx});
      args.dx.how = Write::accumulate;
      kernels::cuda::depthwise_backward(gpu(), args);
      expect_near(fused.dz, composed.dz.download(), limit(type), "dz");
      expect_near(fused.s1, composed.s1.download(), 1e-5, "sum dz");
      expect_near(fused.s2, composed.s2.download(), 1e-5, "sum dz*xhat");
    }
}

DepthwiseProblem expanded(DepthwiseProblem p, int from, Act act = Act::none) {
  p.expanded = from;
  p.expanded_act = act;
  return p;
}

TEST(CudaDepthwise, ExpandsForEveryWindowStrideAndPadding) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2})
        for (const Padding padding : {Padding::same, Padding::symmetric})
          run(expanded({2, 15, 13, 24, 40, k, stride, padding, Act::relu6, type}, 16));
}

/// Sources of fewer channels than are multiplied at once and of more than are held; act(0) that is
/// not 0, of the source and of what is made; as many channels as a block has threads for, and more.
TEST(CudaDepthwise, ExpandsWidthsAndSizes) {
  for (const int k : {3, 5, 7})
    for (const int stride : {1, 2}) {
      run(expanded({1, 1, 1, 8, 8, k, stride}, 8, Act::relu));
      run(expanded({1, 3, 30, 8, 960, k, stride, Padding::same, Act::hard_swish}, 40));
      run(expanded({2, 14, 14, 120, 200, k, stride, Padding::same, Act::sigmoid}, 40,
                   Act::sigmoid));
      run(expanded({1, 7, 7, 240, 240, k, stride, Padding::symmetric, Act::relu}, 48));
      run(expanded({2, 21, 9, 72, 72, k, stride, Padding::same, Act::none}, 24, Act::relu6));
      run(expanded({1, 11, 8, 136, 136, k, stride, Padding::same, Act::relu6}, 200));
      run(expanded({1, 9, 10, 64, 64, k, stride, Padding::symmetric, Act::hard_swish, DType::f32},
                   104, Act::hard_swish));
    }
}

/// Both passes, and what they leave: from an expansion, or from the output of a pointwise
/// convolution.
struct Outputs {
  Field y, mean, variance, dz, s1, s2, dw;
};
Outputs outputs(const DepthwiseProblem& p, bool composed) {
  SourceField x(p.type, p.n, p.h, p.w, p.c, 1, p.act);
  const ExpansionField field(x, p.expanded, 60, p.expanded_act);
  kernels::Source source = x.args();
  kernels::Expansion expansion = field.args();
  const Field stored(p.type, p.n, p.h, p.w, p.c);
  source.y.data = nullptr;
  if (composed) {
    source.y = stored.tensor();
    kernels::cuda::pointwise(gpu(), {expansion.x, expansion.w, nullptr, {}, source.y});
    expansion = {};
  }
  const Field w = Field::random(p.type, p.k, p.k, 1, p.c, 5);
  const Filter filter{w.tensor().data, p.type, {}, {p.c, p.c}, p.k};
  const Axis rows = p.rows(), columns = p.columns();
  const auto channels = [&] { return Field(DType::f32, 1, 1, 1, p.c); };
  Outputs out{Field(p.type, p.n, rows.out, columns.out, p.c),
              channels(),
              channels(),
              Field(p.type, p.n, p.h, p.w, p.c),
              channels(),
              channels(),
              Field::random(DType::f32, p.k, p.k, 1, p.c, 40)};
  kernels::cuda::depthwise(gpu(), {source,
                                   filter,
                                   p.stride,
                                   rows.before,
                                   columns.before,
                                   {out.mean.f32(), out.variance.f32()},
                                   out.y.tensor(),
                                   expansion});
  const IncomingField dy(p.type, p.n, rows.out, columns.out, p.c, 20);
  const Field mean = Field::channels(p.c, 30), inv_std = Field::channels(p.c, 31, 0.5, 2);
  kernels::cuda::depthwise_backward(gpu(), {dy.args(),
                                            source,
                                            filter,
                                            p.stride,
                                            rows.before,
                                            columns.before,
                                            0.25f,
                                            {out.dz.tensor(), Write::overwrite, mean.f32(),
                                             inv_std.f32(), out.s1.f32(), out.s2.f32()},
                                            {out.dw.tensor().data, DType::f32, {}, {p.c, p.c}, p.k},
                                            expansion});
  return out;
}

TEST(CudaDepthwise, ExpandsAsThePointwiseThatItReplaces) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2}) {
        DepthwiseProblem p{2, 17, 14, 72, 72, k, stride, Padding::same, Act::hard_swish, type};
        p.expanded = 24;
        const Outputs got = outputs(p, false), want = outputs(p, true);
        const auto expect = [&](const Field& a, const Field& b, const char* what) {
          EXPECT_LT(relative_error(a.download(), b.download()), limit(type)) << what << " k=" << k;
        };
        expect(got.y, want.y, "y");
        expect(got.mean, want.mean, "mean");
        expect(got.variance, want.variance, "variance");
        expect(got.dz, want.dz, "dz");
        expect(got.s1, want.s1, "sum dz");
        expect(got.s2, want.s2, "sum dz*xhat");
        expect(got.dw, want.dw, "dw");
      }
}

TEST(CudaDepthwise, ExpandsAndAccumulates) {
  for (const int stride : {1, 2}) {
    DepthwiseProblem p{2, 10, 9, 40, 48, 3, stride};
    p.how = Write::accumulate;
    p.left = {true, Act::relu6, 0.5f};
    run(expanded(p, 16));
  }
}

TEST(CudaDepthwise, RefusesWhatItCannotMake) {
  const SourceField x(DType::bf16, 1, 4, 4, 16, 1, Act::relu);
  SourceField made(DType::bf16, 1, 4, 4, 16, 1, Act::relu);
  const ExpansionField expansion(made, 8, 60, Act::none);
  const Field w = Field::random(DType::bf16, 3, 3, 1, 16, 5), y(DType::bf16, 1, 4, 4, 16);
  const Filter filter{w.tensor().data, DType::bf16, {}, {16, 16}, 3};
  const kernels::DepthwiseForward good{x.args(), filter, 1, 1, 1, {}, y.tensor()};
  const auto refused = [&](const auto& change) {
    kernels::DepthwiseForward bad = good;
    bad.x.y.data = nullptr;
    bad.expansion = expansion.args();
    change(bad);
    EXPECT_THROW(kernels::cuda::depthwise(gpu(), bad), Error);
  };
  refused([&](auto& a) { a.x = x.args(); });
  refused([](auto& a) { a.expansion = {}; });
  refused([](auto& a) { a.expansion.x.y.h = 3; });
  refused([](auto& a) { a.expansion.x.y.type = DType::f32; });
  refused([](auto& a) { a.expansion.w.in.now = 16; });
  refused([](auto& a) { a.expansion.w.out.now = 8; });
  refused([](auto& a) { a.expansion.x.y.c = a.expansion.w.in.now = 512; });
  refused([](auto& a) { a.expansion.x.gate = a.x.scale; });

  const IncomingField dy(DType::bf16, 1, 4, 4, 16, 20, true, {true});
  kernels::DepthwiseBackward backward{dy.args(), x.args(), filter, 1, 1, 1, 0, {}, {}};
  backward.dy.dz.data = backward.dy.y.data = nullptr;
  EXPECT_THROW(kernels::cuda::depthwise_backward(gpu(), backward), Error);
  backward.dy = dy.args();
  backward.dy.dz.data = nullptr;
  backward.dy.deferred.spread = nullptr;
  EXPECT_THROW(kernels::cuda::depthwise_backward(gpu(), backward), Error);
}

TEST(CudaDepthwise, RefusesAnAddendThatItCannotTake) {
  const SourceField x(DType::bf16, 1, 4, 4, 16, 1, Act::relu);
  const GradField dx(x, 30, Write::overwrite, Addend::elsewhere);
  const Field w = Field::random(DType::bf16, 3, 3, 1, 16, 5);
  const IncomingField dy(DType::bf16, 1, 4, 4, 16, 20);
  const kernels::DepthwiseBackward good{
      dy.args(), x.args(), {w.tensor().data, DType::bf16, {}, {16, 16}, 3}, 1, 1, 1, 0,
      dx.args(), {}};
  EXPECT_NO_THROW(kernels::cuda::depthwise_backward(gpu(), good));
  const auto refused = [&](const auto& change) {
    kernels::DepthwiseBackward bad = good;
    change(bad.dx);
    EXPECT_THROW(kernels::cuda::depthwise_backward(gpu(), bad), Error);
  };
  refused([](auto& g) { g.how = Write::accumulate; });
  refused([](auto& g) { g.dz.data = nullptr; });
  refused([](auto& g) { g.addend.da.w = 3; });
  refused([](auto& g) { g.addend.da.type = DType::f32; });
  EXPECT_THROW(kernels::cuda::mix_backward(gpu(), {dx.addend.tensor(), 1, x.args(), dx.args()}),
               Error)
      << "an elementwise kernel takes none";
}

TEST(CudaDepthwise, ExpandsInBlocksThatTakeSeveralTiles) {
  run(expanded({2001, 1, 8, 8, 8, 3, 1}, 8));
  run(expanded({2001, 2, 3, 8, 8, 5, 2}, 8));
}

}  // namespace
}  // namespace tunas::testing
