// Softmax cross-entropy with label smoothing, its gradient and the rank of the label.
#include "kernels/softmax_xent.h"

#include <cmath>
#include <limits>

#include "tests/support/golden.h"
#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"

namespace tunas::test {
namespace {

using Labels = std::vector<std::int32_t>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// One call: logits packed at `classes` in, loss, rank and dlogits out, the last packed again after
/// a look at its padding.
class SoftmaxCase {
 public:
  SoftmaxCase(Values logits, int classes, Labels labels, float smoothing)
      : logits_(std::move(logits)),
        classes_(classes),
        labels_(std::move(labels)),
        smoothing_(smoothing) {}

  Results forward(Stream stream) const { return run(stream, false, false); }
  Results backward(Stream stream) const { return run(stream, true, false); }
  Results in_place(Stream stream) const { return run(stream, true, true); }

  Results reference(bool gradient) const {
    const reference::Loss want = reference::softmax_xent(logits_, classes_, labels_, smoothing_);
    Results results{{"loss", want.loss}, {"rank", want.rank}};
    if (gradient) results.push_back({"dlogits", want.dlogits});
    return results;
  }

 private:
  Results run(Stream stream, bool gradient, bool in_place) const {
    const int n = static_cast<int>(labels_.size()), stride = round_up_8(classes_);
    const std::size_t size = static_cast<std::size_t>(n) * stride;
    const Guarded logits(size), loss(n), dlogits(gradient && !in_place ? size : 0);
    for (std::size_t i = 0; i < logits_.size(); ++i) {  // the padding stays NaN
      logits.data()[i / classes_ * stride + i % classes_] = static_cast<float>(logits_[i]);
    }
    std::vector<std::int32_t> rank(n, -1);
    kernels::SoftmaxXent args{{logits.data(), DType::f32, n, 1, 1, stride},
                              classes_,
                              labels_.data(),
                              smoothing_,
                              loss.data(),
                              rank.data(),
                              {}};
    args.dlogits = args.logits;
    if (!in_place) args.dlogits.data = dlogits.optional();
    kernels::softmax_xent(stream, args);
    Results results{{"loss", loss.values()}, {"rank", Values(rank.begin(), rank.end())}};
    if (!gradient) return results;
    Values packed;
    for (std::size_t i = 0; i < size; ++i) {
      const double value = args.dlogits.f32()[i];
      if (static_cast<int>(i % stride) < classes_) {
        packed.push_back(value);
      } else {
        EXPECT_EQ(value, 0) << "padding of dlogits at " << i;
      }
    }
    results.push_back({"dlogits", packed});
    return results;
  }

  Values logits_;
  int classes_;
  Labels labels_;
  float smoothing_;
};

SoftmaxCase random_case(int n, int classes, float smoothing) {
  Generator random;
  const Values logits = random.between(long{n} * classes, -6, 6);
  Labels labels;
  for (int i = 0; i < n; ++i) labels.push_back(random.integer(0, classes - 1));
  return {logits, classes, labels, smoothing};
}

TEST(SoftmaxXent, MatchesTheReference) {
  for (int classes : {1, 2, 8, 10, 1001}) {
    for (float smoothing : {0.0f, 0.1f, 1.0f}) {
      SCOPED_TRACE(std::to_string(classes) + " classes, smoothing " + std::to_string(smoothing));
      const SoftmaxCase c = random_case(13, classes, smoothing);
      Cpu cpu(2);
      expect_close(c.forward(cpu.stream()), c.reference(false));
      const Results backward = c.backward(cpu.stream());
      expect_close(backward, c.reference(true));
      expect_same_bits(c.in_place(cpu.stream()), backward);
    }
  }
}

TEST(SoftmaxXent, ThreadsDoNotChangeBits) {
  const SoftmaxCase c = random_case(130, 1001, 0.1f);
  Cpu one(1);
  const Results want = c.backward(one.stream());
  for (int threads : {2, 3}) {
    Cpu cpu(threads);
    expect_same_bits(c.backward(cpu.stream()), want);
  }
}

TEST(SoftmaxXent, TiesRankTheLowerIndexFirst) {
  const Values row{1, 3, 3, 2, 3, 0, 3, 1};
  for (int label = 0; label < 8; ++label) {
    const SoftmaxCase c(row, 8, {label}, 0);
    Cpu cpu;
    const double want[] = {5, 0, 1, 4, 2, 7, 3, 6};
    EXPECT_EQ(c.forward(cpu.stream())[1].values[0], want[label]) << "label " << label;
  }
}

TEST(SoftmaxXent, ExtremeLogitsStayFinite) {
  Cpu cpu;
  for (float smoothing : {0.0f, 0.1f}) {
    const SoftmaxCase c({1e4, -1e4, 0, -3e38, 88, 89, -88, -104}, 4, {0, 1}, smoothing);
    expect_close(c.backward(cpu.stream()), c.reference(true));
  }
  // Without smoothing a class may be impossible; the label's gradient of a sure network is not
  // lost in 1 - 1.
  const SoftmaxCase impossible({2, 1, -kInfinity, 0}, 4, {0}, 0);
  expect_close(impossible.backward(cpu.stream()), impossible.reference(true));
  const SoftmaxCase sure({60, 0, 0, 0}, 4, {0}, 0);
  expect_close(sure.forward(cpu.stream()), sure.reference(false), 1e-5);
}

/// Beside an image that is well, which nothing must happen to.
TEST(SoftmaxXent, ALossThatIsNotFiniteHasAGradientThatIsNot) {
  struct Broken {
    Values logits;  // label 1
    float smoothing;
    double rank;
  };
  const double low = -kInfinity;
  const Broken all[] = {
      {{1, NAN, 0, -5}, 0.1f, 4},  // no softmax: the label is last
      {{NAN, 1, 0, -2}, 0.1f, 4},   {{0, 1, 0, NAN}, 0, 4},
      {{0, kInfinity, 0, 0}, 0, 4}, {{0, 1, kInfinity, 0}, 0, 4},
      {{low, low, low, low}, 0, 4}, {{0, low, 1, 2}, 0, 3},  // softmax exists, the loss is infinite
      {{0, 1, low, -2}, 0.1f, 0},   {{3e38, -3e38, 0, 0}, 0, 3}};
  Cpu cpu;
  for (std::size_t i = 0; i < std::size(all); ++i) {
    SCOPED_TRACE(i);
    Values logits = {3, 1, 0, -5};
    logits.insert(logits.end(), all[i].logits.begin(), all[i].logits.end());
    const SoftmaxCase both(logits, 4, {1, 1}, all[i].smoothing);
    for (const Results& got : {both.backward(cpu.stream()), both.in_place(cpu.stream())}) {
      EXPECT_TRUE(std::isfinite(got[0].values[0]));
      EXPECT_FALSE(std::isfinite(got[0].values[1]));
      EXPECT_EQ(got[1].values, (Values{1, all[i].rank}));
      for (std::size_t j = 0; j < 8; ++j) {
        EXPECT_EQ(std::isnan(got[2].values[j]), j >= 4) << "dlogits " << j;
      }
    }
  }
}

TEST(SoftmaxXent, RefusesLabelsAndShapesThatDoNotFit) {
  Cpu cpu;
  EXPECT_THROW(SoftmaxCase({1, 2, 3}, 3, {3}, 0).forward(cpu.stream()), Error);
  EXPECT_THROW(SoftmaxCase({1, 2, 3}, 3, {-1}, 0).forward(cpu.stream()), Error);
  EXPECT_THROW(SoftmaxCase({1, 2, 3}, 3, {0}, 1.5f).forward(cpu.stream()), Error);
  try {
    SoftmaxCase({1, 2, 3, 4, 5, 6}, 3, {0, 7}, 0).forward(cpu.stream());
    FAIL() << "label 7 of 3 classes was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data);
    EXPECT_STREQ(error.what(),
                 "softmax_xent: label 7 of image 1 is outside 0..2; check the data's classes");
  }
}

TEST(SoftmaxXent, DryStreamAddsTheFloor) {
  const Guarded logits(3 * 16), dlogits(3 * 16);
  kernels::SoftmaxXent args;
  args.logits = {logits.data(), DType::f32, 3, 1, 1, 16};
  args.dlogits = {dlogits.data(), DType::f32, 3, 1, 1, 16};
  args.classes = 10;
  const Cost cost = dry_cost(args, kernels::softmax_xent);
  EXPECT_GE(cost.bytes_read, 4.0 * 3 * 10);
  EXPECT_GE(cost.bytes_written, 4.0 * 3 * 16);
  EXPECT_LE(cost.bytes(), 4.0 * 3 * (16 + 16 + 3));
  EXPECT_TRUE(dlogits.untouched());
}

TEST(SoftmaxGolden, LabelSmoothing) {
  const auto values = read_golden("unit_values.json");
  Cpu cpu;
  const auto& example = values["label_smoothing_example_3_classes"];
  const SoftmaxCase c(example["logits"].get<Values>(), 3, {example["label"].get<int>()},
                      example["smoothing"].get<float>());
  EXPECT_NEAR(c.forward(cpu.stream())[0].values[0], example["loss"].get<double>(), 1e-6);

  // With equal logits dlogits is 1/classes - target: the targets themselves.
  const auto& smoothing = values["label_smoothing"];
  const int classes = smoothing["classes"].get<int>();
  const SoftmaxCase flat(Values(classes, 0.0), classes, {5}, smoothing["smoothing"].get<float>());
  const Values dlogits = flat.backward(cpu.stream())[2].values;
  EXPECT_NEAR(1.0 / classes - dlogits[5], smoothing["on_value"].get<double>(), 1e-6);
  EXPECT_NEAR(1.0 / classes - dlogits[0], smoothing["off_value"].get<double>(), 1e-9);
}

}  // namespace
}  // namespace tunas::test
