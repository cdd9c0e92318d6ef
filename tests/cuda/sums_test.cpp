// Sums that take the place of a pass on the GPU: the slopes of a pool with spread, and the sums of
// a mix, against their formulas in double, and exactly on small integers.
#include "kernels/error.h"
#include "kernels/mix.h"
#include "kernels/pool.h"
#include "kernels/spread.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {
namespace {

constexpr DType kTypes[] = {DType::bf16, DType::f32};
constexpr Act kActs[] = {Act::none,       Act::relu,    Act::relu6,
                         Act::hard_swish, Act::sigmoid, Act::hard_sigmoid};

/// Numbers in [-2, 2] that every sum here holds exactly; factors of 1 and 2.
void make_integers(Field& f) {
  for (double& v : f.values) v = std::round(2 * v);
  f.upload();
}
void make_factors(Field& f) {
  for (double& v : f.values) v = v > 1 ? 2 : 1;
  f.upload();
}
void make_integers(SourceField& x) {
  make_integers(x.y);
  make_factors(x.scale);
  make_integers(x.shift);
}

/// [2][n][c]: sums over pixels of da*act'(z) and of da*act'(z)*(y - mean).
Values slope_sums(const SourceField& x, const Values& da, const Field& mean) {
  const std::size_t size = x.gate.values.size();
  Values sums(2 * size);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double dz = da[i] * activate_grad(x.kind, x.z(i));
    sums[x.gate_index(i)] += dz;
    sums[size + x.gate_index(i)] += dz * (x.y.values[i] - mean.values[x.channel(i)]);
  }
  return sums;
}

struct Image {
  DType type;
  int n, hw, c;
  Act act;
  bool gated, integers;
};

/// Pool's forward pass and spread, whose sums must be those of pool_backward.
void spread_of_pool(const Image& p) {
  SCOPED_TRACE(::testing::Message() << p.n << " images of " << p.hw << "x" << p.hw << "x" << p.c
                                    << (p.type == DType::bf16 ? " bf16" : " f32"));
  SourceField x(p.type, p.n, p.hw, p.hw, p.c, 3, p.act);
  GradField dx(x, 60);
  Field dy = Field::random(p.type, p.n, 1, 1, p.c, 50);
  dx.dz = Field::random(p.type, p.n, p.hw, p.hw, p.c, 70);  // the partial gradient
  if (p.integers) {
    make_integers(x);
    make_integers(dx.mean);
    make_factors(dx.inv_std);
    make_integers(dy);
    make_integers(dx.dz);
  }
  const double most = p.integers ? 1e-12 : 3e-6;
  const Field y(p.type, p.n, 1, 1, p.c), slopes(DType::f32, 2 * p.n, 1, 1, p.c);
  kernels::cuda::pool(gpu(), {x.args(), y.tensor(), dx.mean.f32(), slopes.f32()});
  expect_near(slopes, slope_sums(x, Values(x.size(), 1.0), dx.mean), most, "slope sums");
  const double pixels = p.hw * p.hw;
  Values mean(p.n * p.c), da = dx.dz.values;
  for (std::size_t i = 0; i < x.size(); ++i) mean[x.gate_index(i)] += x.a(i) / pixels;
  expect_near(y, mean, limit(p.type), "pool");

  Field gated(DType::f32, 2 * p.n, 1, 1, p.c);
  gated.values = slope_sums(x, da, dx.mean);
  gated.upload();
  const Field spread(DType::f32, p.n, 1, 1, p.c);
  kernels::cuda::spread(gpu(),
                        {dy.tensor(), p.hw * p.hw, slopes.f32(), p.gated ? gated.f32() : nullptr,
                         dx.inv_std.f32(), spread.f32(), dx.s1.f32(), dx.s2.f32()});
  Values want = dy.values;
  for (double& v : want) v /= pixels;
  expect_near(spread, want, most, "spread");
  const Values s1 = dx.s1.download(), s2 = dx.s2.download(), share = spread.download();

  const Tensor partial = p.gated ? dx.dz.tensor() : Tensor{};
  kernels::cuda::pool_backward(gpu(), {dy.tensor(), x.args(), partial, dx.args()});
  EXPECT_LT(relative_error(s1, dx.s1.download()), most) << "S1 of pool_backward";
  EXPECT_LT(relative_error(s2, dx.s2.download()), most) << "S2 of pool_backward";
  for (std::size_t i = 0; i < da.size(); ++i) {
    da[i] = (p.gated ? da[i] : 0) + share[x.gate_index(i)];
  }
  dx.check(da, limit(p.type));
}

TEST(CudaSpread, IsPoolBackwardWithoutItsPass) {
  for (const DType type : kTypes)
    for (const bool gated : {false, true}) {
      spread_of_pool({type, 1, 1, 8, Act::none, gated, false});
      spread_of_pool({type, 3, 7, 72, Act::hard_swish, gated, false});
      spread_of_pool({type, 2, 5, 536, Act::relu6, gated, false});
      spread_of_pool({type, 70, 2, 24, Act::hard_sigmoid, gated, false});
      spread_of_pool({type, 5, 15, 40, Act::sigmoid, gated, false});
    }
}

TEST(CudaSpread, IsExactOnIntegers) {
  for (const DType type : kTypes)
    for (const bool gated : {false, true}) {
      spread_of_pool({type, 3, 4, 24, Act::relu, gated, true});
      spread_of_pool({type, 40, 2, 72, Act::relu6, gated, true});
    }
}

TEST(CudaSpread, RefusesWhatItCannotSum) {
  const SourceField x(DType::bf16, 2, 3, 3, 8, 1, Act::relu);
  const Field y(DType::bf16, 2, 1, 1, 8), sums(DType::f32, 4, 1, 1, 8);
  EXPECT_THROW(kernels::cuda::pool(gpu(), {x.args(), y.tensor(), nullptr, sums.f32()}), Error);
  kernels::Spread args{y.tensor(), 9,          sums.f32(), nullptr,
                       sums.f32(), sums.f32(), sums.f32(), sums.f32()};
  args.pixels = 0;
  EXPECT_THROW(kernels::cuda::spread(gpu(), args), Error);
  args.pixels = 9;
  args.slopes = nullptr;
  EXPECT_THROW(kernels::cuda::spread(gpu(), args), Error);
}

/// Sums of `terms` terms, the second accumulating.
void mix_sums(DType type, int c, int terms, bool integers) {
  SCOPED_TRACE(::testing::Message()
               << terms << " terms of " << c << (type == DType::bf16 ? " bf16" : " f32"));
  Field dout = Field::random(type, 3, 9, 7, c, 50);
  if (integers) make_integers(dout);
  std::vector<SourceField> x;
  std::vector<GradField> grads;
  x.reserve(terms);
  kernels::MixSums args;
  args.dout = dout.tensor();
  args.terms = terms;
  for (int t = 0; t < terms; ++t) {
    const Act act = integers ? Act::relu : kActs[(t + c / 8) % 6];
    SourceField& term = x.emplace_back(type, 3, 9, 7, c, 10 * t + 1, act);
    GradField& grad =
        grads.emplace_back(term, 60 + 10 * t, t == 1 ? Write::accumulate : Write::overwrite);
    if (integers) {
      make_integers(term);
      make_integers(grad.mean);
      make_factors(grad.inv_std);
      if (t == 1) make_integers(grad.s1);
      if (t == 1) make_integers(grad.s2);
    }
    args.term[t] = {integers ? 2.0f : 1.0f / static_cast<float>(t + 1),
                    term.args(),
                    grad.how,
                    grad.mean.f32(),
                    grad.inv_std.f32(),
                    grad.s1.f32(),
                    grad.s2.f32()};
  }
  kernels::cuda::mix_sums(gpu(), args);
  for (int t = 0; t < terms; ++t) {
    Values da = dout.values;
    for (double& d : da) d *= args.term[t].weight;
    grads[t].check_sums(da, integers ? 1e-12 : 3e-6);
  }
}

TEST(CudaMixSums, OfUpToFourTerms) {
  for (const DType type : kTypes)
    for (const int c : {8, 24, 184, 536, 960})
      for (int terms = 1; terms <= 4; ++terms) mix_sums(type, c, terms, false);
}

TEST(CudaMixSums, AreExactOnIntegers) {
  for (const DType type : kTypes)
    for (int terms = 1; terms <= 4; ++terms) mix_sums(type, 72, terms, true);
}

TEST(CudaMixSums, RefuseWhatHasNone) {
  const SourceField x(DType::bf16, 2, 3, 3, 8, 1, Act::relu);
  const GradField dx(x, 60);
  kernels::MixSums args;
  args.dout = dx.dz.tensor();
  EXPECT_THROW(kernels::cuda::mix_sums(gpu(), args), Error) << "no terms";
  args.terms = 1;
  args.term[0].x = x.args();
  EXPECT_THROW(kernels::cuda::mix_sums(gpu(), args), Error) << "no mean";
  args.term[0].mean = dx.mean.f32();
  args.term[0].x.y.type = DType::f32;
  EXPECT_THROW(kernels::cuda::mix_sums(gpu(), args), Error) << "another type";
}

}  // namespace
}  // namespace tunas::testing
