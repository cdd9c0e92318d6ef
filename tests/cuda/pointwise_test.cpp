// Pointwise on the GPU against loops in double. Of bf16 the reference rounds u and dy, as the
// tensor cores need them; what remains is the order of float sums and the rounding of the outputs.
#include "kernels/pointwise.h"

#include "kernels/error.h"
#include "tests/cuda/problems.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {

void run(CudaContext& context, const PointwiseProblem& p) {
  SCOPED_TRACE(::testing::Message() << "n=" << p.n << " hw=" << p.hw << " in=" << p.in << "/"
                                    << p.in_max << " out=" << p.out << "/" << p.out_max
                                    << (p.type == DType::bf16 ? " bf16" : " f32"));
  const DType type = p.type;
  // Sums over rows and columns, in float whatever the operands are.
  const double sums = type == DType::bf16 ? 1e-4 : 1e-5;
  const auto rounded = [&](double v) {
    return type == DType::bf16 ? from_bf16(to_bf16(v)) : static_cast<float>(v);
  };
  const int width = round_up_8(p.out), rows = p.n * p.hw * p.hw;
  const SourceField x(type, p.n, p.hw, p.hw, p.in, 1, p.act, p.normalised, p.gated);
  const Field w = Field::random(type, p.out_max, 1, 1, p.in_max, 5);
  const Filter filter{w.tensor().data, type, {p.out_max, p.out}, {p.in_max, p.in}, 1};
  const Field bias = Field::channels(p.out, 6);
  Values u(x.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = rounded(x.u(i));

  const Field y(p.y_type, p.n, p.hw, p.hw, width);
  const Field mean(DType::f32, 1, 1, 1, width), variance(DType::f32, 1, 1, 1, width);
  kernels::cuda::pointwise(
      context,
      {x.args(), filter, p.bias ? bias.f32() : nullptr, {mean.f32(), variance.f32()}, y.tensor()});
  Values want(y.tensor().size());
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o) {
      double sum = p.bias ? bias.values[o] : 0;
      for (int i = 0; i < p.in; ++i) sum += w.values[o * p.in_max + i] * u[r * p.in + i];
      want[r * width + o] = sum;
    }
  expect_near(y, want, p.y_type == type ? limit_of(context, type, limit(type)) : 1e-5, "y");
  check_moments(want, width, mean, variance, limit_of(context, p.y_type, sums));

  IncomingField dy(type, p.n, p.hw, p.hw, width, 20, p.incoming);
  for (std::size_t i = 0; i < dy.dz.values.size(); ++i) {
    if (static_cast<int>(i % width) >= p.out) dy.dz.values[i] = 0;
  }
  dy.dz.upload();
  const Values exact = dy.dy();
  GradField dx(x, 30, p.how);
  const Field dw = Field::random(DType::f32, p.out_max, 1, 1, p.in_max, 40);
  const Field dbias = Field::channels(p.out, 41);
  const float decay = 0.25f;
  kernels::cuda::pointwise_backward(
      context, {dy.args(),
                x.args(),
                filter,
                decay,
                dx.args(),
                {dw.tensor().data, DType::f32, {p.out_max, p.out}, {p.in_max, p.in}, 1},
                p.bias ? dbias.f32() : nullptr});
  Values du(u.size()), want_dw = dw.values, want_bias = dbias.values;
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o) {
      const double d = rounded(exact[r * width + o]);
      want_bias[o] += exact[r * width + o];
      for (int i = 0; i < p.in; ++i) {
        du[r * p.in + i] += w.values[o * p.in_max + i] * d;
        want_dw[o * p.in_max + i] += u[r * p.in + i] * d;
      }
    }
  for (int o = 0; o < p.out; ++o)
    for (int i = 0; i < p.in; ++i) want_dw[o * p.in_max + i] += decay * w.values[o * p.in_max + i];
  dx.check(du, limit_of(context, type, limit(type)));
  expect_near(dw, want_dw, sums, "dw");
  if (p.bias) expect_near(dbias, want_bias, 1e-5, "dbias");
  const Values got = dw.download();  // beyond the prefix: the very bits that were there
  for (int o = 0; o < p.out_max; ++o)
    for (int i = 0; i < p.in_max; ++i) {
      if (o >= p.out || i >= p.in) {
        EXPECT_EQ(got[o * p.in_max + i], dw.values[o * p.in_max + i]);
      }
    }
}

namespace {

using Problem = PointwiseProblem;

void run(const Problem& p) { run(gpu(), p); }

void run_in_both_types(Problem p) {
  run(p);
  p.type = p.y_type = DType::f32;
  run(p);
}

TEST(CudaPointwise, WidthsAndPrefixes) {
  for (const Problem& p : {Problem{1, 1, 8, 8, 8, 8},
                           {2, 5, 16, 24, 64, 72, Act::none},
                           {3, 7, 24, 24, 72, 96, Act::relu},
                           {2, 9, 72, 80, 24, 40, Act::hard_swish},
                           {1, 13, 200, 240, 80, 80, Act::hard_swish},
                           {2, 7, 480, 960, 160, 192, Act::relu6},
                           {2, 7, 160, 160, 480, 1152, Act::none},
                           {1, 40, 40, 48, 136, 136, Act::sigmoid}}) {
    run_in_both_types(p);
  }
}

TEST(CudaPointwise, PlainSourceAndAccumulation) {
  run_in_both_types({2, 6, 40, 40, 120, 120, Act::none, false});
  run_in_both_types(
      {2, 6, 40, 40, 120, 120, Act::relu, true, false, false, true, Write::accumulate});
}

TEST(CudaPointwise, GatedSource) {
  run_in_both_types({5, 7, 72, 72, 40, 48, Act::relu, true, true});
  run_in_both_types({3, 10, 240, 480, 112, 112, Act::hard_swish, true, true});
}

constexpr Problem kClassifiers[] = {
    {128, 1, 200, 1280, 1001, 1001, Act::hard_swish, false, false, true, false},
    {3, 1, 960, 960, 10, 10, Act::relu, true, false, true, false},
    {5, 1, 48, 64, 61, 61, Act::relu6, false, false, true, false}};

TEST(CudaPointwise, ClassifierOfAnyWidth) {
  for (const Problem& p : kClassifiers) run_in_both_types(p);
}

TEST(CudaPointwise, LogitsOfBf16InFloat) {
  for (Problem p : kClassifiers) {
    p.y_type = DType::f32;
    run(p);
  }
}

TEST(CudaPointwise, RefusesMixedTypes) {
  const Field half = Field::random(DType::bf16, 1, 1, 1, 8, 1);
  const Field full = Field::random(DType::f32, 1, 1, 1, 8, 2);
  const Field half_w = Field::random(DType::bf16, 8, 1, 1, 8, 3);
  const Field full_w = Field::random(DType::f32, 8, 1, 1, 8, 4);
  kernels::PointwiseForward forward;
  forward.x.y = full.tensor();
  forward.y = full.tensor();
  forward.w = {half_w.tensor().data, DType::bf16, {8, 8}, {8, 8}};
  EXPECT_THROW(kernels::cuda::pointwise(gpu(), forward), Error);
  forward.w = {full_w.tensor().data, DType::f32, {8, 8}, {8, 8}};
  forward.y = half.tensor();
  EXPECT_THROW(kernels::cuda::pointwise(gpu(), forward), Error);
  kernels::PointwiseBackward backward;
  backward.dy.dz = full.tensor();
  backward.x.y = half.tensor();
  backward.w = {half_w.tensor().data, DType::bf16, {8, 8}, {8, 8}};
  EXPECT_THROW(kernels::cuda::pointwise_backward(gpu(), backward), Error);
}

/// More tiles than the 528 blocks that take them, side by side in one and in two columns of blocks.
TEST(CudaPointwise, BlocksThatTakeSeveralTiles) {
  run({67700, 1, 8, 8, 8, 8});
  run({33900, 1, 8, 8, 136, 136});
}

}  // namespace
}  // namespace tunas::testing
