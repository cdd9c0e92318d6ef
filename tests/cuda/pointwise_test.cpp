// Pointwise on the GPU against loops in double. The reference rounds u and dy to bf16, as the
// tensor cores need them; what remains is the order of float sums and the rounding of the outputs.
#include "kernels/pointwise.h"

#include "tests/cuda/reference.h"

namespace tunas::testing {
namespace {

struct Problem {
  int n, hw, in, in_max, out, out_max;
  Act act = Act::relu6;
  bool normalised = true, gated = false, bias = false, incoming = true;
  Write how = Write::overwrite;
};

double rounded(double v) { return from_bf16(to_bf16(v)); }

void run(const Problem& p) {
  SCOPED_TRACE(::testing::Message() << "n=" << p.n << " hw=" << p.hw << " in=" << p.in << "/"
                                    << p.in_max << " out=" << p.out << "/" << p.out_max);
  const DType type = DType::bf16;
  const int width = round_up_8(p.out), rows = p.n * p.hw * p.hw;
  const SourceField x(type, p.n, p.hw, p.hw, p.in, 1, p.act, p.normalised, p.gated);
  const Field w = Field::random(type, p.out_max, 1, 1, p.in_max, 5);
  const Filter filter{w.tensor().data, type, {p.out_max, p.out}, {p.in_max, p.in}, 1};
  const Field bias = Field::channels(p.out, 6);
  Values u(x.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = rounded(x.u(i));

  const Field y(type, p.n, p.hw, p.hw, width);
  const Field mean(DType::f32, 1, 1, 1, width), variance(DType::f32, 1, 1, 1, width);
  kernels::cuda::pointwise(
      gpu(),
      {x.args(), filter, p.bias ? bias.f32() : nullptr, {mean.f32(), variance.f32()}, y.tensor()});
  Values want(y.tensor().size());
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o) {
      double sum = p.bias ? bias.values[o] : 0;
      for (int i = 0; i < p.in; ++i) sum += w.values[o * p.in_max + i] * u[r * p.in + i];
      want[r * width + o] = sum;
    }
  expect_near(y, want, limit(type), "y");
  check_moments(want, width, mean, variance, 1e-4);

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
      gpu(), {dy.args(),
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
  dx.check(du, limit(type));
  expect_near(dw, want_dw, 1e-4, "dw");
  if (p.bias) expect_near(dbias, want_bias, 1e-5, "dbias");
  const Values got = dw.download();  // beyond the prefix: the very bits that were there
  for (int o = 0; o < p.out_max; ++o)
    for (int i = 0; i < p.in_max; ++i) {
      if (o >= p.out || i >= p.in) {
        EXPECT_EQ(got[o * p.in_max + i], dw.values[o * p.in_max + i]);
      }
    }
}

TEST(CudaPointwise, WidthsAndPrefixes) {
  run({1, 1, 8, 8, 8, 8});
  run({2, 5, 16, 24, 64, 72, Act::none});
  run({3, 7, 24, 24, 72, 96, Act::relu});
  run({2, 9, 72, 80, 24, 40, Act::hard_swish});
  run({1, 13, 200, 240, 80, 80, Act::hard_swish});
  run({2, 7, 960, 960, 160, 192, Act::relu6});
  run({2, 7, 160, 160, 960, 1152, Act::none});
  run({1, 40, 40, 48, 136, 136, Act::sigmoid});
}

TEST(CudaPointwise, PlainSourceAndAccumulation) {
  run({2, 6, 40, 40, 120, 120, Act::none, false});
  run({2, 6, 40, 40, 120, 120, Act::relu, true, false, false, true, Write::accumulate});
}

TEST(CudaPointwise, GatedSource) {
  run({5, 7, 72, 72, 40, 48, Act::relu, true, true});
  run({3, 14, 480, 480, 112, 112, Act::hard_swish, true, true});
}

TEST(CudaPointwise, ClassifierOfAnyWidth) {
  run({128, 1, 1280, 1280, 1001, 1001, Act::hard_swish, false, false, true, false});
  run({3, 1, 960, 960, 10, 10, Act::relu, true, false, true, false});
}

TEST(CudaPointwise, BlocksThatTakeSeveralTiles) {
  run({24, 112, 16, 16, 8, 8});
  run({12, 56, 24, 24, 576, 576});
}

}  // namespace
}  // namespace tunas::testing
