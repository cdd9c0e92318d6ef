// The stem's convolution on the GPU against loops in double; on small integers the sums are exact.
#include "kernels/conv.h"

#include "tests/cuda/problems.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {

void run(CudaContext& context, const ConvProblem& p) {
  SCOPED_TRACE(::testing::Message() << "n=" << p.n << " hw=" << p.hw << " c=" << p.c << " k=" << p.k
                                    << " s=" << p.stride);
  const Axis axis = pad_axis(p.padding, p.hw, p.k, p.stride);
  const int size = p.hw + 2 * p.border, top = p.border - axis.before, taps = p.k * p.k * 4;
  Field image = Field::random(p.type, p.n, size, size, 4, 1);
  for (int n = 0; n < p.n; ++n)
    for (int y = 0; y < size; ++y)
      for (int x = 0; x < size; ++x)
        for (int c = 0; c < 4; ++c) {
          const auto inside = [&](int v) { return v >= p.border && v < p.border + p.hw; };
          if (c == 3 || !inside(y) || !inside(x))
            image.values[((std::size_t(n) * size + y) * size + x) * 4 + c] = 0;
        }
  image.upload();
  const Field w = Field::random(p.type, p.c_max, 1, 1, taps, 2);
  const Filter filter{w.tensor().data, p.type, {p.c_max, p.c}, {4, 4}, p.k};
  const Field y(p.type, p.n, axis.out, axis.out, p.c);
  const Field mean(DType::f32, 1, 1, 1, p.c), variance(DType::f32, 1, 1, 1, p.c);
  kernels::cuda::conv(
      context,
      {image.tensor(), filter, p.stride, top, top, {mean.f32(), variance.f32()}, y.tensor()});
  const IncomingField dy(p.type, p.n, axis.out, axis.out, p.c, 20);
  const Values d = dy.dy();
  const Field dw = Field::random(DType::f32, p.c_max, 1, 1, taps, 40);
  const float decay = 0.25f;
  kernels::cuda::conv_backward(context,
                               {dy.args(),
                                image.tensor(),
                                filter,
                                p.stride,
                                top,
                                top,
                                decay,
                                {dw.tensor().data, DType::f32, {p.c_max, p.c}, {4, 4}, p.k}});
  Values want(y.tensor().size()), want_dw = dw.values;
  std::size_t out = 0;
  for (int n = 0; n < p.n; ++n)
    for (int q = 0; q < axis.out; ++q)
      for (int r = 0; r < axis.out; ++r)
        for (int o = 0; o < p.c; ++o, ++out)
          for (int t = 0; t < taps; ++t) {
            const int i = t / 4 / p.k, j = t / 4 % p.k;
            const std::size_t at =
                ((std::size_t(n) * size + q * p.stride + i + top) * size + r * p.stride + j + top) *
                    4 +
                t % 4;
            want[out] += w.values[o * taps + t] * image.values[at];
            want_dw[o * taps + t] += d[out] * image.values[at];
          }
  for (int e = 0; e < p.c * taps; ++e) want_dw[e] += decay * w.values[e];
  expect_near(y, want, limit(p.type), "y");
  check_moments(want, p.c, mean, variance, limit_of(context, p.type, 1e-5));
  expect_near(dw, want_dw, limit_of(context, p.type, 1e-5), "dw");
}

namespace {

void run(const ConvProblem& p) { run(gpu(), p); }

TEST(CudaConv, StemShapes) {
  for (const DType type : {DType::bf16, DType::f32}) {
    run({2, 32, 1, 16, 16, 3, 2, Padding::same, type});
    run({3, 33, 1, 32, 40, 3, 2, Padding::symmetric, type});
    run({1, 20, 2, 24, 24, 5, 1, Padding::same, type});
    run({2, 15, 3, 8, 64, 7, 2, Padding::symmetric, type});
    run({1, 112, 1, 32, 32, 3, 2, Padding::same, type});
  }
}

}  // namespace
}  // namespace tunas::testing
