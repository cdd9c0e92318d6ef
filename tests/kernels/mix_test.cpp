// Weighted sums of up to four sources, forward and backward.
#include "kernels/mix.h"

#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {
namespace {

using kernels::MixBackward;
using kernels::MixForward;
using kernels::MixSums;

/// `k` in the problem is the number of terms. The first is as the problem says, the others have
/// their own activation; `differ` changes more of term t.
class MixTerms {
 protected:
  template <class Differ>
  MixTerms(Generator& random, const Problem& problem, const Differ& differ)
      : shape_{problem.n, problem.h, problem.w, problem.c.now},
        weights_(random.factors(problem.k)),
        dout_(random.tensor(shape_.size())) {
    constexpr Act kActs[] = {Act::none, Act::relu6, Act::none, Act::relu};
    for (int t = 0; t < problem.k; ++t) {
      Problem term = problem;
      if (t > 0) term.act = kActs[t];
      differ(t, term);
      sources_.push_back(draw_source(random, term, shape_));
      grads_.push_back(draw_grad(random, term, sources_.back()));
    }
  }

  /// What backward of term t must leave.
  Results grad_reference(std::size_t t) const {
    Values da = dout_;
    for (double& value : da) value *= weights_[t];
    const GradValues& grad = grads_[t];
    return grad.expected(reference::activated_grad(sources_[t], da, grad.mean, grad.inv_std));
  }
  /// Runs it.
  void backward(Stream stream, std::size_t t, const kernels::SourceGrad& dx) const {
    const SourceMemory x(sources_[t]);
    const Guarded dout(dout_);
    kernels::mix_backward(stream,
                          {tensor(dout, shape_), static_cast<float>(weights_[t]), x.view(), dx});
  }
  static std::string name(std::size_t t) { return "term " + std::to_string(t) + " "; }

  reference::Shape shape_;
  Values weights_, dout_;
  std::vector<reference::Source> sources_;
  std::vector<GradValues> grads_;
};

/// Terms after the first are normalised or not in turn.
class MixCase : MixTerms {
 public:
  MixCase(Generator& random, const Problem& problem)
      : MixTerms(random, problem, [](int t, Problem& term) {
          if (t > 0) term.norm = t % 2 == 0;
        }) {}

  Results forward(Stream stream) const {
    std::vector<SourceMemory> memory;
    memory.reserve(sources_.size());
    MixForward args;
    args.terms = static_cast<int>(sources_.size());
    for (int t = 0; t < args.terms; ++t) {
      args.weight[t] = static_cast<float>(weights_[t]);
      args.x[t] = memory.emplace_back(sources_[t]).view();
    }
    const Guarded out(shape_.size());
    args.out = tensor(out, shape_);
    kernels::mix(stream, args);
    return {{"out", out.values()}};
  }

  Results forward_reference() const {
    Values out(shape_.size(), 0.0);
    for (std::size_t t = 0; t < sources_.size(); ++t) {
      const Values a = reference::activated(sources_[t]);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += weights_[t] * a[i];
    }
    return {{"out", out}};
  }

  Results backward(Stream stream) const {
    Results results;
    for (std::size_t t = 0; t < sources_.size(); ++t) {
      const GradMemory dx(grads_[t]);
      MixTerms::backward(stream, t, dx.view());
      append(results, dx.results(), name(t));
    }
    return results;
  }

  Results backward_reference() const {
    Results results;
    for (std::size_t t = 0; t < sources_.size(); ++t) append(results, grad_reference(t), name(t));
    return results;
  }
};

class Mix : public ::testing::TestWithParam<Problem> {};

TEST_P(Mix, MatchesTheReference) { check_real<MixCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, Mix,
                         ::testing::ValuesIn(problems({
                             "mix k=1 n=1 hw=1 c=8",
                             "mix k=1 n=2 hw=9 c=24 norm act=hard_swish",
                             "mix k=1 n=2 hw=7 c=40 norm act=sigmoid accumulate",
                             "mix k=2 n=2 hw=13 c=16 norm",
                             "mix k=2 n=1 hw=15 c=320 accumulate",
                             "mix k=3 n=2 hw=9 c=72 norm act=relu",
                             "mix k=3 n=2 h=3 w=14 c=96 norm act=hard_sigmoid accumulate",
                             "mix k=4 n=3 hw=7 c=120 norm act=relu6",
                             "mix k=4 n=1 hw=30 c=8 act=hard_swish accumulate",
                         })));
TEST_P(Mix, IsExactOnIntegers) {
  Problem problem = GetParam();
  problem.act = problem.act == Act::none ? Act::none : Act::relu;
  check_exact<MixCase>(problem);
}

/// The sums of all terms (forward) must be those that mix_backward leaves of each (backward's
/// reference is the same). All terms are normalised here.
class MixSumsCase : MixTerms {
 public:
  MixSumsCase(Generator& random, const Problem& problem)
      : MixTerms(random, problem, [&problem](int t, Problem& term) {
          if (t == 2) term.accumulate = !problem.accumulate;
        }) {}

  Results forward(Stream stream) const {
    std::vector<SourceMemory> x;
    std::vector<GradMemory> grads;
    x.reserve(sources_.size());
    grads.reserve(sources_.size());
    const Guarded dout(dout_);
    MixSums args;
    args.dout = tensor(dout, shape_);
    args.terms = static_cast<int>(sources_.size());
    for (int t = 0; t < args.terms; ++t) {
      const kernels::SourceGrad dx = grads.emplace_back(grads_[t]).view();
      args.term[t] = {static_cast<float>(weights_[t]),
                      x.emplace_back(sources_[t]).view(),
                      dx.how,
                      dx.mean,
                      dx.inv_std,
                      dx.sum_dz,
                      dx.sum_dz_xhat};
    }
    kernels::mix_sums(stream, args);
    return sums_of(grads);
  }
  Results forward_reference() const {
    Results results;
    for (std::size_t t = 0; t < sources_.size(); ++t) add_sums(results, grad_reference(t), t);
    return results;
  }

  Results backward(Stream stream) const {
    std::vector<GradMemory> grads;
    grads.reserve(sources_.size());
    for (std::size_t t = 0; t < sources_.size(); ++t) {
      MixTerms::backward(stream, t, grads.emplace_back(grads_[t]).view());
    }
    return sums_of(grads);
  }
  Results backward_reference() const { return forward_reference(); }

 private:
  static void add_sums(Results& results, Results of_term, std::size_t t) {
    of_term.erase(of_term.begin());  // dz
    append(results, of_term, name(t));
  }
  static Results sums_of(const std::vector<GradMemory>& grads) {
    Results results;
    for (std::size_t t = 0; t < grads.size(); ++t) add_sums(results, grads[t].results(), t);
    return results;
  }
};

class SumsOfMix : public ::testing::TestWithParam<Problem> {};

TEST_P(SumsOfMix, AreThoseOfBackward) { check_real<MixSumsCase>(GetParam()); }
TEST_P(SumsOfMix, HaveTheSameBitsForAnyThreads) { check_threads<MixSumsCase>(GetParam()); }
TEST_P(SumsOfMix, AreExactOnIntegers) {
  Problem problem = GetParam();
  problem.act = problem.act == Act::none ? Act::none : Act::relu;
  check_exact<MixSumsCase>(problem);
}
INSTANTIATE_TEST_SUITE_P(Shapes, SumsOfMix,
                         ::testing::ValuesIn(problems({
                             "mix_sums k=1 n=1 hw=1 c=8 norm",
                             "mix_sums k=1 n=2 hw=9 c=24 norm act=hard_swish accumulate",
                             "mix_sums k=2 n=2 hw=13 c=40 norm",
                             "mix_sums k=2 n=3 hw=56 c=24 norm accumulate",
                             "mix_sums k=3 n=2 h=3 w=14 c=72 norm act=relu6",
                             "mix_sums k=4 n=1 hw=30 c=8 norm act=sigmoid accumulate",
                             "mix_sums k=4 n=2 hw=7 c=960 norm act=hard_sigmoid",
                         })));

class MixThreads : public ::testing::TestWithParam<Problem> {};

TEST_P(MixThreads, DoNotChangeBits) { check_threads<MixCase>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, MixThreads,
                         ::testing::ValuesIn(problems({
                             "mix k=1 n=1 hw=7 c=8 norm act=relu",
                             "mix k=2 n=3 hw=56 c=24 norm",
                             "mix k=3 n=5 hw=28 c=144 norm act=hard_swish accumulate",
                             "mix k=4 n=2 hw=7 c=960 norm act=relu",
                         })));

TEST(Mix, DryStreamAddsTheFloor) {
  const Guarded a(2 * 49 * 24), b(a.size()), out(a.size()), dz(a.size());
  const auto view = [](const Guarded& memory) {
    return Tensor{memory.data(), DType::f32, 2, 7, 7, 24};
  };
  const double bytes = 4.0 * 2 * 49 * 24;
  MixForward forward;
  forward.terms = 2;
  forward.x[0].y = view(a);
  forward.x[1].y = view(b);
  forward.out = view(out);
  const Cost cost = dry_cost(forward, kernels::mix);
  EXPECT_DOUBLE_EQ(cost.bytes_read, 2 * bytes);
  EXPECT_DOUBLE_EQ(cost.bytes_written, bytes);
  MixBackward backward{view(b), 1, {view(a)}, {}};
  backward.dx.dz = view(dz);
  EXPECT_DOUBLE_EQ(dry_cost(backward, kernels::mix_backward).bytes(), 2 * bytes)
      << "y is not needed without activation and sums";
  backward.x.act = Act::relu;
  EXPECT_DOUBLE_EQ(dry_cost(backward, kernels::mix_backward).bytes(), 3 * bytes);
  MixSums sums;
  sums.dout = view(b);
  for (sums.terms = 1; sums.terms <= MixForward::kMaxTerms; ++sums.terms) {
    sums.term[sums.terms - 1].x.y = view(a);
    const Cost of_terms = dry_cost(sums, kernels::mix_sums);
    EXPECT_DOUBLE_EQ(of_terms.bytes_read, (sums.terms + 1) * bytes);
    EXPECT_DOUBLE_EQ(of_terms.bytes_written, 0);
  }
  EXPECT_TRUE(out.untouched() && dz.untouched());
}

TEST(Mix, RefusesWrongShapes) {
  const Guarded a(Values(2 * 49 * 24, 1.0)), out(a.size());
  const Tensor in{a.data(), DType::f32, 2, 7, 7, 24}, to{out.data(), DType::f32, 2, 7, 7, 24};
  Cpu cpu;
  MixForward args;
  args.terms = 2;
  args.x[0].y = args.x[1].y = in;
  args.out = to;
  EXPECT_NO_THROW(kernels::mix(cpu.stream(), args));
  MixForward wrong = args;
  wrong.x[1].y.c = 16;
  EXPECT_THROW(kernels::mix(cpu.stream(), wrong), Error);
  wrong = args;
  wrong.terms = 5;
  EXPECT_THROW(kernels::mix(cpu.stream(), wrong), Error);
  wrong = args;
  wrong.terms = 0;
  EXPECT_THROW(kernels::mix(cpu.stream(), wrong), Error);
  wrong = args;
  wrong.out.n = 1;
  EXPECT_THROW(kernels::mix(cpu.stream(), wrong), Error);
}

TEST(Mix, SumsRefuseWhatHasNone) {
  const Guarded a(Values(2 * 49 * 24, 1.0)), channels(Values(4 * 24, 1.0)), s1(24), s2(24);
  const Tensor in{a.data(), DType::f32, 2, 7, 7, 24};
  const float* channel = channels.data();
  Cpu cpu;
  MixSums args;
  args.dout = in;
  args.terms = 1;
  args.term[0] = {1,        {in, channel, channel}, Write::overwrite, channel, channel, s1.data(),
                  s2.data()};
  EXPECT_NO_THROW(kernels::mix_sums(cpu.stream(), args));
  const auto refuses = [&](auto change) {
    MixSums wrong = args;
    change(wrong);
    EXPECT_THROW(kernels::mix_sums(cpu.stream(), wrong), Error);
  };
  refuses([](MixSums& sums) { sums.terms = 0; });
  refuses([](MixSums& sums) { sums.terms = 5; });
  refuses([](MixSums& sums) { sums.terms = 2; });
  refuses([](MixSums& sums) { sums.dout.data = nullptr; });
  refuses([](MixSums& sums) { sums.term[0].x.y.c = 16; });
  refuses([](MixSums& sums) { sums.term[0].x.scale = nullptr; });
  refuses([](MixSums& sums) { sums.term[0].x.gate = sums.term[0].mean; });
  refuses([](MixSums& sums) { sums.term[0].mean = nullptr; });
  refuses([](MixSums& sums) { sums.term[0].sum_dz = nullptr; });
}

}  // namespace
}  // namespace tunas::test
