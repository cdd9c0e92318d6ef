// Spread by itself, and in the place of the pass over x that global average pooling's backward is.
#include "kernels/spread.h"

#include "kernels/pool.h"
#include "tests/support/kernel_case.h"
#include "tests/support/reference_small.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::Spread;

/// `gate` in the problem means that a gated reader of x left `partial` and its sums. Forward is the
/// kernel on numbers of its own; backward the pool's slope sums, spread, and the dz that a
/// convolution makes of them, against the backward pass of the pool.
class SpreadCase {
 public:
  SpreadCase(Generator& random, const Problem& problem)
      : in_{problem.n, problem.h, problem.w, problem.c.now},
        out_{problem.n, 1, 1, problem.c.now},
        dy_(random.tensor(out_.size())),
        slopes_(random.tensor(2 * out_.size())),
        mean_(random.tensor(out_.c)),
        inv_std_(random.factors(out_.c)) {
    Problem ungated = problem;
    ungated.gate = false;
    source_ = draw_source(random, ungated, in_);
    if (!problem.gate) return;
    gated_ = random.tensor(2 * out_.size());
    partial_ = random.tensor(in_.size());
  }

  Results forward(Stream stream) const { return run(stream, Guarded(slopes_), Guarded(gated_)); }

  Results forward_reference() const {
    const reference::Spread want = reference::spread(dy_, pixels(), slopes_, gated_, inv_std_);
    return {{"spread", want.spread}, {"sum_dz", want.sum_dz}, {"sum_dz_xhat", want.sum_dz_xhat}};
  }

  Results backward(Stream stream) const {
    const SourceMemory x(source_);
    const Guarded y(out_.size()), mean(mean_), slopes(2 * out_.size());
    kernels::pool(stream, {x.view(), tensor(y, out_), mean.data(), slopes.data()});
    Results results =
        run(stream, slopes,
            Guarded(partial_.empty() ? Values{} : reference::slope_sums(source_, partial_, mean_)));
    results[0] = {"dz", deferred(results[0].values)};
    return results;
  }

  Results backward_reference() const {
    Values da = reference::pool_backward(dy_, in_);
    for (std::size_t i = 0; i < partial_.size(); ++i) da[i] += partial_[i];
    const reference::SourceGrad grad = reference::activated_grad(source_, da, mean_, inv_std_);
    return {{"dz", grad.dz}, {"sum_dz", grad.sum_dz}, {"sum_dz_xhat", grad.sum_dz_xhat}};
  }

 private:
  int pixels() const { return in_.h * in_.w; }

  Results run(Stream stream, const Guarded& slopes, const Guarded& gated) const {
    const Guarded dy(dy_), inv_std(inv_std_);
    const Guarded spread(dy_.size()), sum_dz(inv_std_.size()), sum_dz_xhat(inv_std_.size());
    kernels::spread(stream, {tensor(dy, out_), pixels(), slopes.data(), gated.optional(),
                             inv_std.data(), spread.data(), sum_dz.data(), sum_dz_xhat.data()});
    return {{"spread", spread.values()},
            {"sum_dz", sum_dz.values()},
            {"sum_dz_xhat", sum_dz_xhat.values()}};
  }

  /// Deferred of source.h.
  Values deferred(const Values& spread) const {
    Values dz = reference::normalised(source_);
    for (std::size_t i = 0; i < dz.size(); ++i) {
      const std::size_t c = i % out_.c, image = i / (static_cast<std::size_t>(pixels()) * out_.c);
      const double da = (partial_.empty() ? 0 : partial_[i]) + spread[image * out_.c + c];
      dz[i] = da * reference::activate_grad(source_.act, dz[i]);
    }
    return dz;
  }

  reference::Shape in_, out_;
  reference::Source source_;
  Values dy_, slopes_, mean_, inv_std_, gated_, partial_;
};

class SpreadOfPool : public ::testing::TestWithParam<Problem> {};

TEST_P(SpreadOfPool, MatchesTheReference) { check_real<SpreadCase>(GetParam()); }
TEST_P(SpreadOfPool, ThreadsDoNotChangeBits) { check_threads<SpreadCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, SpreadOfPool,
                         ::testing::ValuesIn(problems({
                             "spread n=1 hw=1 c=8",
                             "spread n=1 hw=7 c=24 norm act=relu",
                             "spread n=3 hw=7 c=1280 norm act=hard_swish",
                             "spread n=5 h=15 w=4 c=40 norm act=hard_sigmoid",
                             "spread n=2 hw=9 c=72 norm act=relu6 gate",
                             "spread n=33 hw=5 c=120 norm act=hard_swish gate",
                             "spread n=2 hw=112 c=16 norm act=sigmoid gate",
                         })));

// On integers with a side that is a power of two, means are exact.
TEST(Spread, IsExactOnIntegers) {
  for (const char* text :
       {"spread n=2 hw=4 c=24 norm act=relu", "spread n=5 hw=8 c=40 norm act=relu6 gate"}) {
    check_exact<SpreadCase>(Problem::parse(text));
  }
}

/// Two images of 24 channels.
struct TwoImages {
  Guarded dy{Values(48, 1.0)}, sums{Values(96, 1.0)}, inv_std{Values(24, 1.0)};
  Guarded spread{48}, s1{24}, s2{24};
  Spread args{{dy.data(), DType::f32, 2, 1, 1, 24},
              49,
              sums.data(),
              nullptr,
              inv_std.data(),
              spread.data(),
              s1.data(),
              s2.data()};
};

TEST(Spread, DryStreamAddsTheFloor) {
  TwoImages two;
  const double n_c = 4.0 * 48, c = 4.0 * 24;
  const Cost cost = dry_cost(two.args, kernels::spread);
  EXPECT_DOUBLE_EQ(cost.bytes_read, 3 * n_c + c);
  EXPECT_DOUBLE_EQ(cost.bytes_written, n_c + 2 * c);
  two.args.gated = two.sums.data();
  EXPECT_DOUBLE_EQ(dry_cost(two.args, kernels::spread).bytes_read, 5 * n_c + c);
  EXPECT_TRUE(two.spread.untouched() && two.s1.untouched() && two.s2.untouched());
}

TEST(Spread, RefusesWrongArguments) {
  const TwoImages two;
  Cpu cpu;
  EXPECT_NO_THROW(kernels::spread(cpu.stream(), two.args));
  const auto refuses = [&](auto change) {
    Spread args = two.args;
    change(args);
    EXPECT_THROW(kernels::spread(cpu.stream(), args), Error);
  };
  refuses([](Spread& a) { a.dy.data = nullptr; });
  refuses([](Spread& a) { a.dy.h = 2; });
  refuses([](Spread& a) { a.dy.type = DType::bf16; });
  refuses([](Spread& a) { a.pixels = 0; });
  refuses([](Spread& a) { a.slopes = nullptr; });
  refuses([](Spread& a) { a.inv_std = nullptr; });
  refuses([](Spread& a) { a.spread = nullptr; });
  refuses([](Spread& a) { a.sum_dz_xhat = nullptr; });
}

}  // namespace
}  // namespace tunas::test
