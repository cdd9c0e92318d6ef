// The double reference itself: its gradients against central differences, and the tools that
// compare with it, which must be able to fail.
#include "tests/support/reference_small.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/support/gradcheck.h"
#include "tests/support/memory.h"
#include "tests/support/problems.h"
#include "tests/support/random.h"

namespace tunas::test {
namespace {

using reference::Shape;
using reference::Window;

constexpr Act kActs[] = {Act::none,       Act::relu,    Act::relu6,
                         Act::hard_swish, Act::sigmoid, Act::hard_sigmoid};

class Gradcheck : public ::testing::Test {
 protected:
  Values draw(long size) { return random_.between(size, -4, 7); }
  Generator random_;
};

TEST_F(Gradcheck, Activations) {
  for (Act act : kActs) {
    const Values x = draw(200), r = draw(200);
    Values gradient;
    for (int i = 0; i < 200; ++i) gradient.push_back(r[i] * reference::activate_grad(act, x[i]));
    expect_gradient(
        name(act),
        [&](const Values& at) {
          double sum = 0;
          for (int i = 0; i < 200; ++i) sum += r[i] * reference::activate(act, at[i]);
          return sum;
        },
        x, gradient);
  }
}

TEST(Activations, CornersBelongToTheFlatSide) {
  EXPECT_EQ(reference::activate_grad(Act::relu, 0), 0);
  EXPECT_EQ(reference::activate_grad(Act::relu6, 0), 0);
  EXPECT_EQ(reference::activate_grad(Act::relu6, 6), 0);
  EXPECT_EQ(reference::activate_grad(Act::hard_sigmoid, -3), 0);
  EXPECT_EQ(reference::activate_grad(Act::hard_sigmoid, 3), 0);
  EXPECT_EQ(reference::activate_grad(Act::hard_swish, -3), 0);
  EXPECT_EQ(reference::activate_grad(Act::hard_swish, 3), 1);
}

TEST_F(Gradcheck, Pointwise) {
  const int c_in = 5, c_out = 3, rows = 7;
  const Values u = draw(rows * c_in), w = draw(c_out * c_in), bias = draw(c_out),
               r = draw(rows * c_out);
  const reference::LinearGrad grad = reference::pointwise_backward(r, u, w, c_in, c_out);
  const auto f = [&](const Values& at_u, const Values& at_w, const Values& at_bias) {
    return dot(r, reference::pointwise(at_u, at_w, at_bias, c_in, c_out));
  };
  expect_gradient(
      "du", [&](const Values& x) { return f(x, w, bias); }, u, grad.du);
  expect_gradient(
      "dw", [&](const Values& x) { return f(u, x, bias); }, w, grad.dw);
  expect_gradient(
      "dbias", [&](const Values& x) { return f(u, w, x); }, bias, grad.dbias);
}

TEST_F(Gradcheck, DepthwiseAndConv) {
  for (const Window& window :
       {Window{3, 1, 1, 1, 5, 6}, Window{5, 2, 1, 2, 3, 3}, Window{3, 2, 0, 1, 3, 3}}) {
    const Shape in{2, 5, 6, 3};
    const long outputs = 2L * window.out_h * window.out_w;
    const Values u = draw(in.size()), w = draw(window.k * window.k * 3), r = draw(outputs * 3);
    const reference::LinearGrad grad = reference::depthwise_backward(r, u, in, w, window);
    expect_gradient(
        "depthwise du",
        [&](const Values& x) { return dot(r, reference::depthwise(x, in, w, window)); }, u,
        grad.du);
    expect_gradient(
        "depthwise dw",
        [&](const Values& x) { return dot(r, reference::depthwise(u, in, x, window)); }, w,
        grad.dw);
    const Values dense = draw(4L * window.k * window.k * 3), dy = draw(outputs * 4);
    expect_gradient(
        "conv dw", [&](const Values& x) { return dot(dy, reference::conv(u, in, x, 4, window)); },
        dense, reference::conv_backward(dy, u, in, 4, window));
  }
}

TEST_F(Gradcheck, SourcesWithAndWithoutGate) {
  const Shape shape{2, 3, 2, 4};
  for (Act act : kActs) {
    for (bool gated : {false, true}) {
      SCOPED_TRACE(name(act));
      reference::Source x{shape, draw(shape.size()), {}, {}, act, {}};
      if (gated) x.gate = draw(8);
      const Values r = draw(shape.size());
      const auto f = [&](const Values& y, const Values& gate) {
        reference::Source moved = x;
        moved.y = y;
        moved.gate = gate;
        return dot(r, reference::read(moved));
      };
      const reference::SourceGrad grad = reference::source_grad(x, r, {}, {});
      const Values dz = gated ? reference::activated_grad(x, grad.dz, {}, {}).dz : grad.dz;
      expect_gradient(
          "dz", [&](const Values& y) { return f(y, x.gate); }, x.y, dz);
      if (gated) {
        expect_gradient(
            "dgate", [&](const Values& gate) { return f(x.y, gate); }, x.gate, grad.dgate);
      }
    }
  }
}

// Raw output -> batch statistics -> normalisation -> activation: the sums, the coefficients and
// the incoming gradient together are the gradient of y; the sums are those of gamma and beta.
TEST_F(Gradcheck, BatchNormalisation) {
  const Shape shape{3, 2, 2, 4};
  const Values y = draw(shape.size()), gamma = draw(4), beta = draw(4), r = draw(shape.size());
  const auto source = [&](const Values& at_y, const Values& at_gamma, const Values& at_beta) {
    const reference::Norm applied =
        reference::norm(at_gamma, at_beta, reference::moments(at_y, shape.c), 1e-3);
    return reference::Source{shape, at_y, applied.scale, applied.shift, Act::hard_swish, {}};
  };
  const auto f = [&](const Values& at_y, const Values& at_gamma, const Values& at_beta) {
    return dot(r, reference::activated(source(at_y, at_gamma, at_beta)));
  };
  const reference::Moments moments = reference::moments(y, shape.c);
  const reference::Norm norm = reference::norm(gamma, beta, moments, 1e-3);
  const reference::SourceGrad grad =
      reference::source_grad(source(y, gamma, beta), r, moments.mean, norm.inv_std);
  const reference::NormGrad back = reference::norm_backward(norm, moments.mean, grad, shape.rows());
  expect_gradient(
      "dy", [&](const Values& x) { return f(x, gamma, beta); }, y,
      reference::incoming({grad.dz, y, back.ca, back.cb, back.cc}));
  expect_gradient(
      "dgamma", [&](const Values& x) { return f(y, x, beta); }, gamma, grad.sum_dz_xhat);
  expect_gradient(
      "dbeta", [&](const Values& x) { return f(y, gamma, x); }, beta, grad.sum_dz);
}

TEST_F(Gradcheck, PoolGateAndDropout) {
  const Shape shape{2, 3, 5, 4};
  const Values a = draw(shape.size()), r = draw(8);
  expect_gradient(
      "pool", [&](const Values& x) { return dot(r, reference::pool(x, shape)); }, a,
      reference::pool_backward(r, shape));
  for (Act kind : {Act::sigmoid, Act::hard_sigmoid}) {
    const Values x = draw(8);
    expect_gradient(
        "gate", [&](const Values& at) { return dot(r, reference::gate(at, kind, 0.5, 0.5)); }, x,
        reference::gate_backward(x, kind, 0.5, r));
  }
  const Values mask = reference::dropout_mask(1000, 0.5, {});
  for (double value : mask) EXPECT_TRUE(value == 0 || value == 2);
}

TEST_F(Gradcheck, SoftmaxXent) {
  const Values logits = draw(3 * 7);
  const std::vector<std::int32_t> labels{2, 6, 0};
  for (double smoothing : {0.0, 0.1}) {
    expect_gradient(
        "dlogits",
        [&](const Values& x) {
          const Values loss = reference::softmax_xent(x, 7, labels, smoothing).loss;
          return (loss[0] + loss[1] + loss[2]) / 3;
        },
        logits, reference::softmax_xent(logits, 7, labels, smoothing).dlogits);
  }
}

// The momentum buffer holds rate*g: with the rate outside it a varying rate gives other weights.
TEST(RmsProp, RateIsInsideTheMomentum) {
  reference::RmsPropState state{{1}, {1}, {0}};
  reference::rms_prop(state, {1}, 0.5, 0.9, 0.9, 1);
  reference::rms_prop(state, {0}, 0.0, 0.9, 0.9, 1);
  const double first = 0.5 / std::sqrt(2.0);
  EXPECT_DOUBLE_EQ(state.mom[0], 0.9 * first);
  EXPECT_DOUBLE_EQ(state.w[0], 1 - first - 0.9 * first);
}

TEST(Compare, ErrorIsRelativeToTheTensorAndNanNeverPasses) {
  EXPECT_DOUBLE_EQ(relative_error({3, 4.5}, {3, 4}), 0.1);
  EXPECT_EQ(relative_error({0, 0}, {0, 0}), 0);
  EXPECT_TRUE(std::isinf(relative_error({1e-9}, {0})));
  EXPECT_TRUE(std::isinf(relative_error({NAN, 1}, {1, 1})));
  EXPECT_TRUE(std::isinf(relative_error({NAN}, {NAN})));
  EXPECT_TRUE(std::isinf(relative_error({1}, {NAN})));
  EXPECT_TRUE(std::isinf(relative_error({INFINITY}, {INFINITY})));
  EXPECT_TRUE(std::isinf(relative_error({1, 2}, {1})));
  EXPECT_NONFATAL_FAILURE(expect_close("x", {1, 2.001}, {1, 2}), "worst at element 1");
  EXPECT_NONFATAL_FAILURE(expect_close("x", {NAN}, {1}), "x");
  EXPECT_NONFATAL_FAILURE(expect_equal({{"x", {NAN}}}, {{"x", {NAN}}}), "x");
  EXPECT_NONFATAL_FAILURE(expect_same_bits({{"x", {0.0}}}, {{"x", {-0.0}}}), "x");
}

TEST(Compare, GradcheckNoticesAWrongGradient) {
  const auto square = [](const Values& x) { return dot(x, x); };
  expect_gradient("x", square, {1, 2}, {2, 4});
  EXPECT_NONFATAL_FAILURE(expect_gradient("x", square, {1, 2}, {2, 4.001}), "worst at element 1");
}

void write_behind() {
  const Guarded memory(3);
  memory.data()[3] = 1;
}

TEST(Memory, WallsAndPrefixesNotice) {
  EXPECT_NONFATAL_FAILURE(write_behind(), "memory behind a tensor of 3 floats was written");
  const Guarded fresh(2);
  EXPECT_TRUE(fresh.untouched() && std::isnan(fresh.data()[0]));
  fresh.data()[1] = NAN;
  EXPECT_FALSE(fresh.untouched());
  const StoredFilter filter({3, 2}, {4, 3}, 1, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(filter.prefix(), (Values{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(filter.view().f32()[4], 4) << "the second row starts after the four stored columns";
  EXPECT_TRUE(filter.beyond_untouched());
  filter.view().f32()[3] = 0;
  EXPECT_FALSE(filter.beyond_untouched());
}

TEST(Problem, ReadsWhatItSays) {
  const Problem p = Problem::parse(
      "depthwise n=2 hw=28 c=240/512 o=40 k=5 s=2 pad=symmetric act=hard_swish norm gate");
  EXPECT_EQ(p.op, "depthwise");
  EXPECT_EQ(p.rows(), 2 * 28 * 28);
  EXPECT_EQ(p.c, (Width{512, 240}));
  EXPECT_EQ(p.o, (Width{40, 40}));
  EXPECT_EQ(p.k, 5);
  EXPECT_EQ(p.s, 2);
  EXPECT_EQ(p.padding, Padding::symmetric);
  EXPECT_EQ(p.act, Act::hard_swish);
  EXPECT_TRUE(p.norm && p.gate && !p.bias && !p.accumulate && !p.in_place);
}

TEST(Problem, SaysWhatItCannotRead) {
  const auto message = [](const char* text) -> std::string {
    try {
      Problem::parse(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("mix c=0"), "problem 'mix c=0': 'c=0' needs a positive number");
  EXPECT_EQ(message("mix c=8x"), "problem 'mix c=8x': 'c=8x' needs a positive number");
  EXPECT_EQ(message("mix c=16/8"),
            "problem 'mix c=16/8': 'c=16/8' has more active channels than stored ones");
  EXPECT_NE(message("mix q=1").find("cannot read 'q=1'; keys are n, hw"), std::string::npos);
  EXPECT_NE(message("mix pad=valid").find("cannot read 'pad=valid'"), std::string::npos);
  EXPECT_NE(message("mix gated").find("unknown flag 'gated'; flags are"), std::string::npos);
  EXPECT_NE(message("mix act=elu").find("'act=elu' is no activation"), std::string::npos);
  EXPECT_NE(message("n=1").find("the first word must be the operation"), std::string::npos);
  EXPECT_NE(message("").find("the first word must be the operation"), std::string::npos);
}

}  // namespace
}  // namespace tunas::test
