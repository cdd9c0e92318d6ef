// Convolutions on small integers. Every product and every sum is an integer that bf16 operands hold
// and float adds exactly, in whatever order; so forward, dgrad and wgrad must match loops over
// integers bit for bit. Outputs in bf16 may round; inputs are sparse enough that these do not.
#include "kernels/conv.h"
#include "kernels/depthwise.h"
#include "kernels/pointwise.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {
namespace {

constexpr DType kTypes[] = {DType::bf16, DType::f32};
constexpr float kLeftWeight = 2;  // of an addend

/// Integers in [-2, 2], `share` of them not zero.
Field integers(DType type, int n, int h, int w, int c, unsigned seed, double share = 1) {
  Field f = Field::random(type, n, h, w, c, seed);
  std::mt19937 generator(seed);
  for (double& v : f.values) {
    const bool keeps = static_cast<double>(generator() % 1000) < 1000 * share;
    v = keeps ? static_cast<int>(generator() % 5) - 2 : 0;
  }
  f.upload();
  return f;
}

/// Few enough terms a sum that it stays below 256, where bf16 still holds every integer.
double share_of(int terms) { return std::min(1.0, 24.0 / terms); }

void expect_same(const Field& got, const Values& want, const char* what) {
  for (const double v : want) {
    ASSERT_LT(std::abs(v), got.type() == DType::bf16 ? 256 : 1 << 24) << what << ": a bad problem";
  }
  EXPECT_EQ(got.download(), want) << what;
}

struct Size {
  int n, hw, in, in_max, out, out_max;
};

void pointwise(DType type, const Size& p) {
  SCOPED_TRACE(::testing::Message() << "n=" << p.n << " hw=" << p.hw << " " << p.in << " to "
                                    << p.out << (type == DType::bf16 ? " bf16" : " f32"));
  const int rows = p.n * p.hw * p.hw;
  const Field x = integers(type, p.n, p.hw, p.hw, p.in, 1, share_of(p.in));
  const Field w = integers(type, p.out_max, 1, 1, p.in_max, 2);
  const Filter filter{w.tensor().data, type, {p.out_max, p.out}, {p.in_max, p.in}, 1};
  const Field y(type, p.n, p.hw, p.hw, p.out);
  kernels::cuda::pointwise(gpu(), {{x.tensor()}, filter, nullptr, {}, y.tensor()});
  const Field dy = integers(type, p.n, p.hw, p.hw, p.out, 3, share_of(p.out));
  const Field dx(type, p.n, p.hw, p.hw, p.in);
  const Field dw = integers(DType::f32, p.out_max, 1, 1, p.in_max, 4);
  kernels::PointwiseBackward backward;
  backward.dy.dz = dy.tensor();
  backward.x.y = x.tensor();
  backward.w = filter;
  backward.dx.dz = dx.tensor();
  const Field left = integers(type, p.n, p.hw, p.hw, p.in, 5);  // by another reader
  backward.dx.addend = {left.tensor(), kLeftWeight};
  backward.dw = {dw.tensor().data, DType::f32, {p.out_max, p.out}, {p.in_max, p.in}, 1};
  kernels::cuda::pointwise_backward(gpu(), backward);
  Values want(y.tensor().size()), want_dx = left.values, want_dw = dw.values;
  for (double& v : want_dx) v *= kLeftWeight;
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o)
      for (int i = 0; i < p.in; ++i) {
        want[r * p.out + o] += w.values[o * p.in_max + i] * x.values[r * p.in + i];
        want_dx[r * p.in + i] += w.values[o * p.in_max + i] * dy.values[r * p.out + o];
        want_dw[o * p.in_max + i] += dy.values[r * p.out + o] * x.values[r * p.in + i];
      }
  expect_same(y, want, "y");
  expect_same(dx, want_dx, "dx");
  expect_same(dw, want_dw, "dw");
}

TEST(CudaExact, Pointwise) {
  for (const DType type : kTypes)
    for (const Size& p : {Size{1, 1, 8, 8, 8, 8},
                          {1, 3, 16, 64, 8, 40},
                          {2, 9, 40, 48, 72, 72},
                          {1, 12, 200, 200, 24, 32},
                          {1, 7, 24, 24, 320, 320},
                          {3, 7, 136, 160, 264, 960}}) {
      pointwise(type, p);
    }
}

struct Window {
  int n, h, w, c, c_max, k, stride;
};

/// Integers as x of a depthwise convolution: stored, or made by an expansion of `from` channels.
struct Input {
  Field x, few, w;
  kernels::Expansion expansion;

  Input(DType type, const Window& p, int from)
      : x(integers(type, p.n, p.h, p.w, p.c, 1, share_of(p.k * p.k))),
        few(integers(type, p.n, p.h, p.w, from ? from : 8, 6, share_of(p.k * p.k * from * 4))),
        w(integers(type, p.c_max, 1, 1, from + 8, 7)) {
    if (!from) return;
    expansion = {{few.tensor()}, {w.tensor().data, type, {p.c_max, p.c}, {from + 8, from}, 1}};
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      x.values[i] = 0;
      for (int k = 0; k < from; ++k) {
        x.values[i] += few.values[i / p.c * from + k] * w.values[i % p.c * (from + 8) + k];
      }
    }
  }
  kernels::Source args() const {
    kernels::Source source{x.tensor()};
    if (expansion.w) source.y.data = nullptr;
    return source;
  }
};

void depthwise(DType type, Padding padding, const Window& p, int from = 0) {
  SCOPED_TRACE(::testing::Message()
               << p.h << "x" << p.w << " c=" << p.c << " k=" << p.k << " s=" << p.stride
               << (type == DType::bf16 ? " bf16" : " f32") << " expanded=" << from);
  const Axis rows = pad_axis(padding, p.h, p.k, p.stride);
  const Axis columns = pad_axis(padding, p.w, p.k, p.stride);
  const Input input(type, p, from);
  const Field& x = input.x;
  const Field w = integers(type, p.k, p.k, 1, p.c_max, 2);
  const Filter filter{w.tensor().data, type, {}, {p.c_max, p.c}, p.k};
  const Field y(type, p.n, rows.out, columns.out, p.c);
  kernels::cuda::depthwise(gpu(), {input.args(),
                                   filter,
                                   p.stride,
                                   rows.before,
                                   columns.before,
                                   {},
                                   y.tensor(),
                                   input.expansion});
  const Field dy = integers(type, p.n, rows.out, columns.out, p.c, 3, share_of(p.k * p.k));
  const Field dx(type, p.n, p.h, p.w, p.c);
  const Field dw = integers(DType::f32, p.k, p.k, 1, p.c_max, 4);
  kernels::DepthwiseBackward backward;
  backward.dy.dz = dy.tensor();
  backward.x = input.args();
  backward.expansion = input.expansion;
  backward.w = filter;
  backward.stride = p.stride;
  backward.top = rows.before;
  backward.left = columns.before;
  backward.dx.dz = dx.tensor();
  const Field left = integers(type, p.n, p.h, p.w, p.c, 5);  // by another reader
  backward.dx.addend = {left.tensor(), kLeftWeight};
  backward.dw = {dw.tensor().data, DType::f32, {}, {p.c_max, p.c}, p.k};
  kernels::cuda::depthwise_backward(gpu(), backward);
  Values want(y.tensor().size()), want_dx = left.values, want_dw = dw.values;
  for (double& v : want_dx) v *= kLeftWeight;
  std::size_t out = 0;
  for (int n = 0; n < p.n; ++n)
    for (int q = 0; q < rows.out; ++q)
      for (int r = 0; r < columns.out; ++r, out += p.c)
        for (int t = 0; t < p.k * p.k; ++t) {
          const int row = q * p.stride + t / p.k - rows.before;
          const int column = r * p.stride + t % p.k - columns.before;
          if (row < 0 || row >= p.h || column < 0 || column >= p.w) continue;
          const std::size_t in = ((std::size_t(n) * p.h + row) * p.w + column) * p.c;
          const std::size_t tap = std::size_t(t) * p.c_max;
          for (int c = 0; c < p.c; ++c) {
            want[out + c] += w.values[tap + c] * x.values[in + c];
            want_dx[in + c] += w.values[tap + c] * dy.values[out + c];
            want_dw[tap + c] += dy.values[out + c] * x.values[in + c];
          }
        }
  expect_same(y, want, "y");
  expect_same(dx, want_dx, "dx");
  expect_same(dw, want_dw, "dw");
}

TEST(CudaExact, Depthwise) {
  for (const DType type : kTypes)
    for (const Padding padding : {Padding::same, Padding::symmetric})
      for (const int k : {3, 5, 7})
        for (const int stride : {1, 2}) {
          depthwise(type, padding, {1, 1, 1, 8, 8, k, stride});
          depthwise(type, padding, {1, 9, 11, 8, 24, k, stride});
          depthwise(type, padding, {3, 8, 5, 40, 40, k, stride});
          depthwise(type, padding, {1, 17, 16, 72, 96, k, stride});
        }
}

TEST(CudaExact, DepthwiseOfAnExpansion) {
  for (const DType type : kTypes)
    for (const Padding padding : {Padding::same, Padding::symmetric})
      for (const int k : {3, 5, 7})
        for (const int stride : {1, 2}) {
          depthwise(type, padding, {1, 1, 1, 8, 8, k, stride}, 8);
          depthwise(type, padding, {3, 8, 5, 40, 40, k, stride}, 48);
          depthwise(type, padding, {1, 17, 16, 72, 96, k, stride}, 24);
          depthwise(type, padding, {1, 9, 11, 24, 24, k, stride}, 72);
        }
}

void conv(DType type, int n, int size, int c, int c_max, int k, int stride) {
  SCOPED_TRACE(::testing::Message() << "n=" << n << " size=" << size << " c=" << c << " k=" << k
                                    << " s=" << stride << (type == DType::bf16 ? " bf16" : " f32"));
  const int out = (size - k) / stride + 1, taps = k * k * 4;
  Field image = integers(type, n, size, size, 4, 1, share_of(taps));
  for (std::size_t i = 3; i < image.values.size(); i += 4) image.values[i] = 0;
  image.upload();
  const Field w = integers(type, c_max, 1, 1, taps, 2);
  const Filter filter{w.tensor().data, type, {c_max, c}, {4, 4}, k};
  const Field y(type, n, out, out, c);
  kernels::cuda::conv(gpu(), {image.tensor(), filter, stride, 0, 0, {}, y.tensor()});
  const Field dy = integers(type, n, out, out, c, 3);
  const Field dw = integers(DType::f32, c_max, 1, 1, taps, 4);
  kernels::ConvBackward backward;
  backward.dy.dz = dy.tensor();
  backward.image = image.tensor();
  backward.w = filter;
  backward.stride = stride;
  backward.dw = {dw.tensor().data, DType::f32, {c_max, c}, {4, 4}, k};
  kernels::cuda::conv_backward(gpu(), backward);
  Values want(y.tensor().size()), want_dw = dw.values;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const std::size_t pixel = i / c, o = i % c, r = pixel % out, q = pixel / out % out;
    for (int t = 0; t < taps; ++t) {
      const std::size_t row = q * stride + t / 4 / k, column = r * stride + t / 4 % k;
      const double u = image.values[((pixel / out / out * size + row) * size + column) * 4 + t % 4];
      want[i] += w.values[o * taps + t] * u;
      want_dw[o * taps + t] += dy.values[i] * u;
    }
  }
  expect_same(y, want, "y");
  expect_same(dw, want_dw, "dw");
}

TEST(CudaExact, Stem) {
  for (const DType type : kTypes) {
    conv(type, 1, 3, 8, 8, 3, 2);
    conv(type, 2, 21, 16, 24, 3, 2);
    conv(type, 1, 24, 64, 64, 5, 1);
    conv(type, 3, 15, 40, 40, 7, 2);
  }
}

}  // namespace
}  // namespace tunas::testing
