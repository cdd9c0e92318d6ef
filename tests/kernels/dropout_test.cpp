// Dropout, forward and backward.
#include "kernels/dropout.h"

#include <cmath>

#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

constexpr PhiloxKey kKey{77, Purpose::dropout, 3, 5};

using kernels::DropoutBackward;
using kernels::DropoutForward;

class DropoutCase {
 public:
  DropoutCase(Generator& random, const Problem& problem)
      : shape_{problem.n, problem.h, problem.w, problem.c.now},
        source_(draw_source(random, problem, shape_)),
        dout_(random.tensor(shape_.size())),
        grad_(draw_grad(random, problem, source_)),
        mask_(reference::dropout_mask(shape_.size(), kRate, kKey)) {}

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const Guarded out(shape_.size());
    kernels::dropout(stream, {x.view(), kRate, &kKey, tensor(out, shape_)});
    return {{"out", out.values()}};
  }

  Results forward_reference() const { return {{"out", masked(reference::activated(source_))}}; }

  Results backward(Stream stream) const {
    const SourceMemory x(source_);
    const Guarded dout(dout_);
    const GradMemory dx(grad_);
    kernels::dropout_backward(stream, {tensor(dout, shape_), x.view(), kRate, &kKey, dx.view()});
    return dx.results();
  }

  Results backward_reference() const {
    return grad_.expected(
        reference::activated_grad(source_, masked(dout_), grad_.mean, grad_.inv_std));
  }

 private:
  static constexpr float kRate = 0.25f;

  Values masked(Values values) const {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= mask_[i];
    return values;
  }

  reference::Shape shape_;
  reference::Source source_;
  Values dout_;
  GradValues grad_;
  Values mask_;
};

class Dropout : public ::testing::TestWithParam<Problem> {};

TEST_P(Dropout, MatchesTheReference) { check_real<DropoutCase>(GetParam()); }
TEST_P(Dropout, ThreadsDoNotChangeBits) { check_threads<DropoutCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, Dropout,
                         ::testing::ValuesIn(problems({
                             "dropout n=1 c=8",
                             "dropout n=5 c=1280 norm act=hard_swish",
                             "dropout n=64 c=1024 act=relu accumulate",
                             "dropout n=3 hw=7 c=24 norm act=relu6 accumulate",
                             "dropout n=2 hw=9 c=40 norm act=sigmoid",
                         })));

TEST(Dropout, KeepsTheStatedShareAndAnotherKeyKeepsOthers) {
  const long size = 1 << 18;
  const Values one = reference::dropout_mask(size, 0.25, {1, Purpose::dropout, 0, 0});
  const Values two = reference::dropout_mask(size, 0.25, {1, Purpose::dropout, 1, 0});
  double kept = 0, same = 0;
  for (long i = 0; i < size; ++i) {
    kept += one[i] > 0;
    same += one[i] == two[i];
  }
  EXPECT_NEAR(kept / size, 0.75, 0.005);
  EXPECT_NEAR(same / size, 0.75 * 0.75 + 0.25 * 0.25, 0.005);
}

TEST(Dropout, RateZeroKeepsEverything) {
  const Guarded x(Values{1, 2, 3, 4, 5, 6, 7, 8}), out(8);
  Cpu cpu;
  const Tensor in{x.data(), DType::f32, 1, 1, 1, 8}, to{out.data(), DType::f32, 1, 1, 1, 8};
  kernels::dropout(cpu.stream(), {{in}, 0, &kKey, to});
  EXPECT_EQ(out.values(), x.values());
}

TEST(Dropout, RefusesWrongArguments) {
  const Guarded x(Values(16, 1.0)), out(16);
  Cpu cpu;
  const Tensor in{x.data(), DType::f32, 2, 1, 1, 8}, to{out.data(), DType::f32, 2, 1, 1, 8};
  const auto run = [&](const Tensor& from, float rate, const Tensor& into) {
    kernels::dropout(cpu.stream(), {{from}, rate, &kKey, into});
  };
  Tensor fewer = to;
  fewer.n = 1;
  EXPECT_NO_THROW(run(in, 0.5f, to));
  EXPECT_THROW(run(in, 1.0f, to), Error);
  EXPECT_THROW(run(in, -0.1f, to), Error);
  EXPECT_THROW(run(in, NAN, to), Error);
  EXPECT_THROW(run(in, 0.5f, fewer), Error);
}

TEST(Dropout, DryStreamAddsTheFloor) {
  const Guarded x(16), out(16), dx(16);
  const Tensor in{x.data(), DType::f32, 2, 1, 1, 8}, to{out.data(), DType::f32, 2, 1, 1, 8};
  EXPECT_EQ(dry_cost(DropoutForward{{in}, 0.5f, {}, to}, kernels::dropout).bytes(), 2 * 64);
  DropoutBackward args{to, {in}, 0.5f, {}, {}};
  args.dx.dz = {dx.data(), DType::f32, 2, 1, 1, 8};
  EXPECT_EQ(dry_cost(args, kernels::dropout_backward).bytes(), 3 * 64);
  EXPECT_TRUE(out.untouched() && dx.untouched());
}

}  // namespace
}  // namespace tunas::test
