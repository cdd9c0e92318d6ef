// The stem's dense convolution on bordered images, forward and backward.
#include "kernels/conv.h"

#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::ConvBackward;
using kernels::ConvForward;

constexpr int kBorder = 3;  // of the stored images; more than any filter needs

class ConvCase {
 public:
  ConvCase(Generator& random, const Problem& problem)
      : in_{problem.n, problem.h + 2 * kBorder, problem.w + 2 * kBorder, 4},
        o_(problem.o),
        window_(window(problem)),
        out_{problem.n, window_.out_h, window_.out_w, o_.now},
        moments_(random.numbers() == Numbers::real),
        decay_(random.numbers() == Numbers::real ? 0.125f : 2.0f),
        image_(random.tensor(in_.size())),
        w_(random.tensor(long{o_.now} * problem.k * problem.k * 4)),
        incoming_(draw_incoming(random, out_, problem.norm)),
        dw_(random.tensor(static_cast<long>(w_.size()))) {
    for (long i = 0; i < in_.size(); ++i) {
      const int x = static_cast<int>(i / 4 % in_.w), y = static_cast<int>(i / 4 / in_.w % in_.h);
      const bool inside = std::min(x, y) >= kBorder && x < in_.w - kBorder && y < in_.h - kBorder;
      if (!inside || i % 4 == 3) image_[i] = 0;
    }
    for (std::size_t i = 3; i < w_.size(); i += 4) w_[i] = dw_[i] = 0;
  }

  /// top and left: border - pad_before, where the first tap sits in the stored image.
  static reference::Window window(const Problem& problem) {
    const Axis rows = pad_axis(problem.padding, problem.h, problem.k, problem.s);
    const Axis columns = pad_axis(problem.padding, problem.w, problem.k, problem.s);
    return {problem.k, problem.s,  kBorder - rows.before, kBorder - columns.before,
            rows.out,  columns.out};
  }

  Results forward(Stream stream) const {
    const Guarded image(image_), y(out_.size()), mean(moments_ ? o_.now : 0),
        variance(moments_ ? o_.now : 0);
    const StoredFilter w(o_, {4, 4}, window_.k, w_);
    kernels::conv(stream, {tensor(image, in_),
                           w.view(),
                           window_.stride,
                           window_.top,
                           window_.left,
                           {mean.optional(), variance.optional()},
                           tensor(y, out_)});
    Results results{{"y", y.values()}};
    if (moments_) append(results, {{"mean", mean.values()}, {"variance", variance.values()}});
    return results;
  }

  Results forward_reference() const {
    const Values y = reference::conv(image_, in_, w_, o_.now, window_);
    Results results{{"y", y}};
    if (moments_) {
      const reference::Moments m = reference::moments(y, o_.now);
      append(results, {{"mean", m.mean}, {"variance", m.variance}});
    }
    return results;
  }

  Results backward(Stream stream) const {
    const IncomingMemory dy(incoming_, out_);
    const Guarded image(image_);
    const StoredFilter w(o_, {4, 4}, window_.k, w_), dw(o_, {4, 4}, window_.k, dw_);
    kernels::conv_backward(stream, {dy.view(), tensor(image, in_), w.view(), window_.stride,
                                    window_.top, window_.left, decay_, dw.view()});
    EXPECT_TRUE(dw.beyond_untouched()) << "dw was written beyond the prefix";
    return {{"dw", dw.prefix()}};
  }

  Results backward_reference() const {
    Values dw =
        reference::conv_backward(reference::incoming(incoming_), image_, in_, o_.now, window_);
    for (std::size_t i = 0; i < dw.size(); ++i) dw[i] += dw_[i] + decay_ * w_[i];
    return {{"dw", dw}};
  }

 private:
  reference::Shape in_;
  Width o_;
  reference::Window window_;
  reference::Shape out_;
  bool moments_;
  float decay_;
  Values image_, w_;
  reference::Incoming incoming_;
  Values dw_;
};

class Conv : public ::testing::TestWithParam<Problem> {};

TEST_P(Conv, MatchesTheReference) { check_real<ConvCase>(GetParam()); }
TUNAS_TEST_LIBRARY(Conv, LibraryMatchesTheReference, check_real<ConvCase>);
TEST_P(Conv, IsExactOnIntegers) { check_exact<ConvCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, Conv,
                         ::testing::ValuesIn(problems({
                             "conv n=1 hw=7 o=8 k=3",
                             "conv n=1 hw=9 o=8/32 k=5 s=2",
                             "conv n=2 hw=13 o=16/32 k=3 s=2 norm",
                             "conv n=2 hw=15 o=24/32 k=5 norm",
                             "conv n=2 hw=16 o=32 k=3 s=2 norm",
                             "conv n=3 hw=16 o=40/64 k=5 s=2 norm",
                             "conv n=2 h=9 w=14 o=48/64 k=3 s=2 pad=symmetric norm",
                             "conv n=2 h=14 w=11 o=64 k=5 s=2 pad=symmetric norm",
                             "conv n=1 hw=33 o=16 k=3 pad=symmetric norm",
                         })));

class ConvThreads : public ::testing::TestWithParam<Problem> {};

TEST_P(ConvThreads, DoNotChangeBits) { check_threads<ConvCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, ConvThreads,
                         ::testing::ValuesIn(problems({
                             "conv n=1 hw=15 o=8 k=3 s=2 norm",
                             "conv n=2 hw=112 o=32/64 k=3 s=2 norm",
                             "conv n=5 hw=48 o=16/32 k=5 s=2 norm",
                             "conv n=3 hw=32 o=24 k=3 norm",
                         })));

TEST(Conv, DryStreamAddsTheFloor) {
  const Guarded image(2 * 20 * 20 * 4), y(2 * 8 * 8 * 32), w(32 * 9 * 4), dw(32 * 9 * 4);
  const Tensor in{image.data(), DType::f32, 2, 20, 20, 4}, out{y.data(), DType::f32, 2, 8, 8, 32};
  const Filter filter{w.data(), DType::f32, {32, 32}, {4, 4}, 3};
  const double outputs = 2.0 * 8 * 8 * 32, w_bytes = 4.0 * 32 * 9 * 4;
  const Cost forward = dry_cost(ConvForward{in, filter, 2, 2, 2, {}, out}, kernels::conv);
  expect_floor(forward, {2 * 27 * outputs, bytes_of(in), 4 * outputs}, w_bytes);
  ConvBackward args;
  args.dy.dz = out;
  args.image = in;
  args.w = filter;
  args.stride = args.top = args.left = 2;
  args.dw = {dw.data(), DType::f32, {32, 32}, {4, 4}, 3};
  const Cost backward = dry_cost(args, kernels::conv_backward);
  expect_floor(backward, {2 * 27 * outputs, bytes_of(in) + 4 * outputs, 0}, w_bytes);
  EXPECT_TRUE(y.untouched() && dw.untouched());
}

TEST(Conv, RefusesWrongShapes) {
  const Guarded image(Values(2 * 10 * 10 * 4, 1.0)), y(2 * 8 * 8 * 16), w(Values(16 * 36, 1.0));
  const Tensor in{image.data(), DType::f32, 2, 10, 10, 4}, out{y.data(), DType::f32, 2, 8, 8, 16};
  const Filter filter{w.data(), DType::f32, {16, 16}, {4, 4}, 3};
  Cpu cpu;
  const auto run = [&](const Tensor& from, const Filter& with, int top, const Tensor& to) {
    kernels::conv(cpu.stream(), {from, with, 1, top, 0, {}, to});
  };
  Tensor wide = in, fewer = out, half = in;
  wide.c = 8;
  fewer.n = 1;
  half.type = DType::bf16;
  Filter channels = filter;
  channels.in = {8, 8};
  EXPECT_NO_THROW(run(in, filter, 0, out));
  EXPECT_THROW(run(wide, filter, 0, out), Error);
  EXPECT_THROW(run(in, filter, 0, fewer), Error);
  EXPECT_THROW(run(half, filter, 0, out), Error);
  EXPECT_THROW(run(in, channels, 0, out), Error);
  EXPECT_THROW(run(in, filter, 1, out), Error) << "the last window leaves the image";
}

}  // namespace
}  // namespace tunas::test
