// Global average pooling, forward and backward.
#include "kernels/pool.h"

#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::PoolBackward;
using kernels::PoolForward;

/// With `norm` forward leaves the sums of slopes. `gate` in the problem means that a gated reader
/// left `partial`; `in_place` that it lies in dz.
class PoolCase {
 public:
  PoolCase(Generator& random, const Problem& problem)
      : in_{problem.n, problem.h, problem.w, problem.c.now},
        out_{problem.n, 1, 1, problem.c.now},
        in_place_(problem.in_place),
        source_(draw_source(random, problem, in_)),
        dy_(random.tensor(out_.size())) {
    if (problem.gate) partial_ = random.tensor(in_.size());
    reference::Source ungated = source_;
    ungated.gate.clear();
    grad_ = draw_grad(random, problem, ungated);
    if (in_place_) grad_.dz.clear();
  }

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const Guarded y(out_.size()), mean(grad_.mean);
    const Guarded slopes(grad_.mean.empty() ? 0 : 2 * out_.size());
    kernels::pool(stream, {x.view(), tensor(y, out_), mean.optional(), slopes.optional()});
    return results(y.values(), slopes.values());
  }

  Results forward_reference() const {
    return results(reference::pool(reference::activated(source_), in_),
                   grad_.mean.empty() ? Values{} : reference::slope_sums(source_, {}, grad_.mean));
  }

  Results backward(Stream stream) const {
    const SourceMemory x(source_);
    const Guarded dy(dy_), partial(in_place_ ? Values{} : partial_);
    const GradMemory dx(grad_);
    PoolBackward args{tensor(dy, out_), x.view(), tensor(partial, in_), dx.view()};
    if (in_place_) {
      std::copy(partial_.begin(), partial_.end(), args.dx.dz.f32());
      args.partial = args.dx.dz;
    }
    kernels::pool_backward(stream, args);
    return dx.results();
  }

  Results backward_reference() const {
    Values da = reference::pool_backward(dy_, in_);
    for (std::size_t i = 0; i < partial_.size(); ++i) da[i] += partial_[i];
    return grad_.expected(reference::activated_grad(source_, da, grad_.mean, grad_.inv_std));
  }

 private:
  static Results results(const Values& y, const Values& slopes) {
    const auto half = slopes.begin() + static_cast<long>(slopes.size() / 2);
    return {{"y", y},
            {"slope sums", {slopes.begin(), half}},
            {"centred slope sums", {half, slopes.end()}}};
  }

  reference::Shape in_, out_;
  bool in_place_;
  reference::Source source_;
  Values dy_, partial_;
  GradValues grad_;
};

class Pool : public ::testing::TestWithParam<Problem> {};

TEST_P(Pool, MatchesTheReference) { check_real<PoolCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, Pool,
                         ::testing::ValuesIn(problems({
                             "pool n=1 hw=7 c=8",
                             "pool n=1 hw=1 c=24 norm act=relu",
                             "pool n=3 hw=7 c=1280 norm act=hard_swish",
                             "pool n=2 hw=9 c=72 norm act=relu6 accumulate",
                             "pool n=2 hw=13 c=40 norm act=sigmoid accumulate",
                             "pool n=2 h=15 w=4 c=120 norm act=hard_sigmoid",
                             "pool n=2 hw=14 c=96 norm",
                             "pool n=2 hw=9 c=16 act=relu accumulate",
                             "pool n=2 hw=14 c=72 norm act=hard_swish gate",
                             "pool n=3 hw=9 c=24 norm act=relu gate in_place",
                             "pool n=1 hw=28 c=120 norm act=relu6 gate in_place",
                         })));

class PoolThreads : public ::testing::TestWithParam<Problem> {};

TEST_P(PoolThreads, DoNotChangeBits) { check_threads<PoolCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, PoolThreads,
                         ::testing::ValuesIn(problems({
                             "pool n=1 hw=7 c=8 norm act=relu",
                             "pool n=5 hw=28 c=240 norm act=hard_swish gate in_place",
                             "pool n=7 hw=7 c=1280 norm act=relu accumulate",
                             "pool n=1 hw=56 c=72 norm act=relu6 gate",
                         })));

// On integers with a side that is a power of two, means are exact.
TEST(Pool, IsExactOnIntegers) {
  for (const char* text : {"pool n=2 hw=4 c=24 norm act=relu accumulate",
                           "pool n=3 hw=8 c=40 norm act=relu6 gate in_place"}) {
    check_exact<PoolCase>(Problem::parse(text));
  }
}

TEST(Pool, DryStreamAddsTheFloor) {
  const Guarded x(2 * 49 * 72), y(2 * 72), dx(x.size());
  const Tensor in{x.data(), DType::f32, 2, 7, 7, 72}, out{y.data(), DType::f32, 2, 1, 1, 72};
  const double elements = 2.0 * 49 * 72;
  const Cost forward = dry_cost(PoolForward{{in}, out}, kernels::pool);
  EXPECT_GE(forward.bytes_read, 4 * elements);
  EXPECT_GE(forward.bytes_written, 4.0 * 2 * 72);
  EXPECT_LE(forward.bytes(), 1.1 * 4 * elements);
  const Cost slopes = dry_cost(PoolForward{{in}, out, y.data(), dx.data()}, kernels::pool);
  EXPECT_EQ(slopes.bytes() - forward.bytes(), 2 * 4.0 * 2 * 72);
  PoolBackward args{out, {in}, in, {}};
  args.x.act = Act::relu;
  args.dx.dz = {dx.data(), DType::f32, 2, 7, 7, 72};
  const Cost backward = dry_cost(args, kernels::pool_backward);
  EXPECT_GE(backward.bytes_read, 2 * 4 * elements);
  EXPECT_GE(backward.bytes_written, 4 * elements);
  EXPECT_LE(backward.bytes(), 1.1 * 3 * 4 * elements);
  EXPECT_TRUE(y.untouched() && dx.untouched());
}

TEST(Pool, RefusesWrongShapes) {
  const Guarded x(Values(2 * 49 * 16, 1.0)), y(2 * 16);
  const Tensor in{x.data(), DType::f32, 2, 7, 7, 16};
  Cpu cpu;
  const auto run = [&](const Tensor& to) { kernels::pool(cpu.stream(), {{in}, to}); };
  EXPECT_NO_THROW(run({y.data(), DType::f32, 2, 1, 1, 16}));
  EXPECT_THROW(run({y.data(), DType::f32, 1, 1, 1, 16}), Error);
  EXPECT_THROW(run({y.data(), DType::f32, 2, 1, 1, 8}), Error);
  EXPECT_THROW(run({y.data(), DType::f32, 1, 2, 1, 16}), Error);
  EXPECT_THROW(run({y.data(), DType::bf16, 2, 1, 1, 16}), Error);
  const Guarded slopes(2 * 2 * 16);
  const Tensor out{y.data(), DType::f32, 2, 1, 1, 16};
  EXPECT_THROW(kernels::pool(cpu.stream(), {{in}, out, nullptr, slopes.data()}), Error)
      << "slope sums are about a mean";
}

}  // namespace
}  // namespace tunas::test
