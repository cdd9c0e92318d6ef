// What kernels do with numbers that are not finite: they note where, and updates leave no trace.
#include <limits>

#include "kernels/error.h"
#include "kernels/norm.h"
#include "kernels/softmax_xent.h"
#include "kernels/update.h"
#include "tests/cuda/field.h"

namespace tunas::testing {
namespace {

/// One value on the device.
template <class T>
class Word {
 public:
  explicit Word(const T& start) {
    cuda_ok(cudaMemcpy(buffer_.data(), &start, sizeof start, cudaMemcpyHostToDevice));
  }
  T* data() const { return static_cast<T*>(buffer_.data()); }
  T download() const {
    T value;
    cuda_ok(cudaMemcpy(&value, buffer_.data(), sizeof value, cudaMemcpyDeviceToHost));
    return value;
  }

 private:
  Buffer buffer_{sizeof(T)};
};

/// The last of 200 channels, in the second block; the layer that is first has the smaller position.
TEST(CudaNorm, WhatIsNotFiniteIsNotedAndSpoilsTheScale) {
  const int c = 200;
  const Word<std::uint32_t> origin(40);
  const Field inv_std = Field::channels(c, 5), scale = Field::channels(c, 6),
              shift = Field::channels(c, 7);
  std::uint32_t before = 40;
  for (int broken = -1; broken < 6; ++broken) {
    SCOPED_TRACE(broken);
    Field gamma = Field::channels(c, 1), beta = Field::channels(c, 2), mean = Field::channels(c, 3),
          variance = Field::channels(c, 4, 0.1, 2);
    if (broken == 0) mean.values[c - 1] = NAN;
    if (broken == 1) variance.values[c - 1] = INFINITY;  // scale is 0, shift beta
    if (broken == 2) gamma.values[c - 1] = NAN;
    if (broken == 3) beta.values[c - 1] = -INFINITY;
    if (broken == 4) gamma.values[c - 1] = 3e38, variance.values[c - 1] = 0;
    if (broken == 5) gamma.values[c - 1] = mean.values[c - 1] = 1e20;
    for (Field* field : {&gamma, &beta, &mean, &variance}) field->upload();
    kernels::NormForward args{c,           37,         1e-3f,          gamma.f32(),
                              beta.f32(),  mean.f32(), variance.f32(), inv_std.f32(),
                              scale.f32(), shift.f32()};
    args.origin = origin.data();
    args.position = 50;
    kernels::cuda::norm(gpu(), args);
    EXPECT_EQ(origin.download(), before) << "an earlier layer was there before";
    args.position = --before;
    kernels::cuda::norm(gpu(), args);
    if (broken < 0) ++before;  // nothing is wrong
    EXPECT_EQ(origin.download(), before);
    const Values got = scale.download();
    for (int i = 0; i < c; ++i) EXPECT_EQ(std::isnan(got[i]), broken >= 0 && i == c - 1) << i;
    args.origin = nullptr;
    kernels::cuda::norm(gpu(), args);
  }
}

TEST(CudaSoftmax, ALossThatIsNotFiniteHasAGradientThatIsNot) {
  struct Broken {
    Values logits;
    float smoothing;
    std::int32_t rank;
  };
  const double low = -INFINITY;
  const Broken all[] = {{{NAN, 1, 0, 0, 0, 0, 0, 0}, 0, 8},  // no softmax: the label is last
                        {{0, 1, 0, 0, 0, 0, 0, INFINITY}, 0.1f, 8},
                        {{0, INFINITY, 0, 0, 0, 0, 0, 0}, 0, 8},
                        {{low, low, low, low, low, low, low, low}, 0, 8},
                        {{0, low, 1, 2, 0, 0, 0, 0}, 0, 7},  // softmax exists, the loss is infinite
                        {{0, 1, low, 0, 0, 0, 0, 0}, 0.1f, 0},
                        {{3e38, -3e38, 0, 0, 0, 0, 0, 0}, 0, 7}};
  for (const Broken& broken : all) {
    Field logits(DType::f32, 1, 1, 1, 8);
    logits.values = broken.logits;
    logits.upload();
    const Field loss(DType::f32, 1, 1, 1, 1);
    const Word<std::int32_t> label(1), ranked(-1);
    kernels::cuda::softmax_xent(gpu(), {logits.tensor(), 8, label.data(), broken.smoothing,
                                        loss.f32(), ranked.data(), logits.tensor()});
    EXPECT_FALSE(std::isfinite(loss.download()[0]));
    EXPECT_EQ(ranked.download(), broken.rank);
    for (const double d : logits.download()) EXPECT_TRUE(std::isnan(d));
  }
}

TEST(CudaUpdate, AVerdictCountsWhatIsNotFinite) {
  for (const int size : {1, 7, 4096, 100003}) {
    Field grad = Field::channels(size, 1);
    grad.values[size / 2] = std::numeric_limits<float>::max();
    std::uint32_t want = 0, last = 0;
    for (const int i : {-1, 0, size / 3, size - 2, size - 1}) {
      if (i >= 0) grad.values[i] = i % 2 == 0 ? NAN : -INFINITY;
      grad.upload();
      want = 0;
      for (int e = 0; e < size; ++e) {
        if (std::isfinite(grad.values[e])) continue;
        ++want;
        last = static_cast<std::uint32_t>(e);
      }
      const Word<kernels::Verdict> verdict({5, 0});
      kernels::cuda::finite_check(gpu(),
                                  {static_cast<std::size_t>(size), grad.f32(), verdict.data()});
      EXPECT_EQ(verdict.download().not_finite, 5 + want) << "added to what was there";
      EXPECT_EQ(verdict.download().last, last);
    }
    const Word<kernels::Verdict> verdict({0, 200'000});
    kernels::cuda::finite_check(gpu(),
                                {static_cast<std::size_t>(size), grad.f32(), verdict.data()});
    EXPECT_EQ(verdict.download().last, 200'000u) << "the largest that was there";
  }
}

TEST(CudaUpdate, AfterABadVerdictNothingIsTouched) {
  const int size = 4099;
  const auto count = static_cast<std::size_t>(size);
  const Field grad = Field::channels(size, 1), start = Field::channels(size, 2, 0.1, 1);
  for (const std::uint32_t bad : {0u, 1u}) {
    const Word<kernels::Verdict> verdict({bad, 7});
    std::vector<Field> f;
    for (int i = 0; i < 7; ++i) f.push_back(Field::channels(size, 2, 0.1, 1));
    const Field shadow = Field::random(DType::bf16, 1, 1, 1, size, 2, 0.1, 1);
    const Field sgd_shadow = Field::random(DType::bf16, 1, 1, 1, size, 2, 0.1, 1);
    kernels::RmsProp rms{count, grad.f32(), f[0].f32(), f[1].f32(), f[2].f32(), 1, 0.5f};
    rms.shadow = shadow.tensor().data;
    rms.verdict = verdict.data();
    kernels::cuda::rms_prop(gpu(), rms);
    kernels::Sgd sgd{count, grad.f32(), f[3].f32(), f[4].f32(), 1, 0.5f};
    sgd.shadow = sgd_shadow.tensor().data;
    sgd.verdict = verdict.data();
    kernels::cuda::sgd(gpu(), sgd);
    kernels::cuda::average(gpu(), {count, grad.f32(), f[5].f32(), 0.5f, verdict.data()});
    kernels::cuda::shard_mean(gpu(), {count, 3, grad.f32(), f[6].f32(), verdict.data()});
    for (const Field& field : f) EXPECT_EQ(field.download() == start.values, bad > 0);
    EXPECT_EQ(shadow.download() == shadow.values, bad > 0);
    EXPECT_EQ(sgd_shadow.download() == sgd_shadow.values, bad > 0);
  }
}

}  // namespace
}  // namespace tunas::testing
