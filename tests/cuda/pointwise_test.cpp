// Pointwise on the GPU against loops in double. Of bf16 the reference rounds u and dy, as the
// tensor cores need them; what remains is the order of float sums and the rounding of the outputs.
#include "kernels/pointwise.h"

#include "kernels/error.h"
#include "tests/cuda/problems.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {
namespace {

/// What a reader left of a gradient, and what it says: dz of the `da` it left beside it.
struct DeferredField {
  Field scale, shift, spread;
  float weight = 0.75f;
  Act kind = Act::hard_swish;

  DeferredField(int n, int c)
      : scale(Field::channels(c, 50, 0.5, 6)),
        shift(Field::channels(c, 51, -1, 2)),
        spread(Field::random(DType::f32, n, 1, 1, c, 52)) {}
  kernels::Deferred args() const { return {weight, spread.f32(), scale.f32(), shift.f32(), kind}; }
  /// Of element i, in rows of c, `pixels` of them an image.
  double dz(std::size_t i, int c, int pixels, double da, double y) const {
    const std::size_t channel = i % c, image = i / (static_cast<std::size_t>(c) * pixels);
    const double z = scale.values[channel] * y + shift.values[channel];
    return (weight * da + spread.values[image * c + channel]) * activate_grad(kind, z);
  }
};

/// Of the gradient `da` of a source's activated value, per image.
void check_slopes(const SourceField& x, const GradField& dx, const Values& du, const Field& got,
                  double most) {
  Values want(got.tensor().size());
  const std::size_t half = want.size() / 2;
  for (std::size_t i = 0; i < du.size(); ++i) {
    const std::size_t at = x.gate_index(i);
    const double d = du[i] * x.gate.values[at] * activate_grad(x.kind, x.z(i));
    want[at] += d;
    want[half + at] += d * (x.y.values[i] - dx.mean.values[x.channel(i)]);
  }
  expect_near(got, want, most, "slope sums");
}

}  // namespace

void run(CudaContext& context, const PointwiseProblem& p) {
  SCOPED_TRACE(::testing::Message() << "n=" << p.n << " hw=" << p.hw << " in=" << p.in << "/"
                                    << p.in_max << " out=" << p.out << "/" << p.out_max
                                    << (p.type == DType::bf16 ? " bf16" : " f32"));
  const DType type = p.type;
  // Sums over rows and columns, in float whatever the operands are.
  const double sums = type == DType::bf16 ? 1e-4 : 1e-5;
  const auto rounded = [&](double v) {
    return type == DType::bf16 ? from_bf16(to_bf16(v)) : static_cast<float>(v);
  };
  const int width = round_up_8(p.out), rows = p.n * p.hw * p.hw;
  const SourceField x(type, p.n, p.hw, p.hw, p.in, 1, p.act, p.normalised, p.gated);
  const Field w = Field::random(type, p.out_max, 1, 1, p.in_max, 5);
  const Filter filter{w.tensor().data, type, {p.out_max, p.out}, {p.in_max, p.in}, 1};
  const Field bias = Field::channels(p.out, 6);
  Values u(x.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = rounded(x.u(i));

  const bool stored = p.handed != Handed::expansion;
  const Field y(p.y_type, p.n, p.hw, p.hw, width);
  Tensor output = y.tensor();
  if (!stored) output.data = nullptr;
  const Field mean(DType::f32, 1, 1, 1, width), variance(DType::f32, 1, 1, 1, width);
  kernels::cuda::pointwise(
      context,
      {x.args(), filter, p.bias ? bias.f32() : nullptr, {mean.f32(), variance.f32()}, output});
  Values want(y.tensor().size());
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o) {
      double sum = p.bias ? bias.values[o] : 0;
      for (int i = 0; i < p.in; ++i) sum += w.values[o * p.in_max + i] * u[r * p.in + i];
      want[r * width + o] = sum;
    }
  if (stored)
    expect_near(y, want, p.y_type == type ? limit_of(context, type, limit(type)) : 1e-5, "y");
  check_moments(want, width, mean, variance, limit_of(context, p.y_type, sums));

  IncomingField dy(type, p.n, p.hw, p.hw, width, 20, p.incoming);
  for (std::size_t i = 0; i < dy.dz.values.size(); ++i) {
    if (static_cast<int>(i % width) >= p.out) dy.dz.values[i] = 0;
  }
  dy.dz.upload();
  kernels::Incoming incoming = dy.args();
  const DeferredField deferred(p.n, width);
  if (p.handed == Handed::deferred || p.handed == Handed::spread) {
    incoming.deferred = deferred.args();
    incoming.y = dy.y.tensor();
    for (std::size_t i = 0; i < dy.dz.values.size(); ++i) {
      const double da = p.handed == Handed::deferred ? dy.dz.values[i] : 0;
      dy.dz.values[i] = deferred.dz(i, width, p.hw * p.hw, da, dy.y.values[i]);
    }
    if (p.handed == Handed::spread) incoming.dz.data = nullptr;
  }
  if (!stored) {
    dy.y.values = want;
    incoming.y.data = nullptr;
  }
  const Values exact = dy.dy();
  GradField dx(x, 30, p.how, p.addend);
  const Field slopes(DType::f32, 2, p.n, 1, p.in);
  kernels::SourceGrad grad = dx.args();
  if (p.slopes) grad.slope_sums = slopes.f32();
  const Field dw = Field::random(DType::f32, p.out_max, 1, 1, p.in_max, 40);
  const Field dbias = Field::channels(p.out, 41);
  const float decay = 0.25f;
  kernels::cuda::pointwise_backward(
      context, {incoming,
                x.args(),
                filter,
                decay,
                grad,
                {dw.tensor().data, DType::f32, {p.out_max, p.out}, {p.in_max, p.in}, 1},
                p.bias ? dbias.f32() : nullptr});
  Values du(u.size()), want_dw = dw.values, want_bias = dbias.values;
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < p.out; ++o) {
      const double d = stored ? rounded(exact[r * width + o]) : exact[r * width + o];
      want_bias[o] += exact[r * width + o];
      for (int i = 0; i < p.in; ++i) {
        du[r * p.in + i] += w.values[o * p.in_max + i] * d;
        want_dw[o * p.in_max + i] += u[r * p.in + i] * d;
      }
    }
  for (int o = 0; o < p.out; ++o)
    for (int i = 0; i < p.in; ++i) want_dw[o * p.in_max + i] += decay * w.values[o * p.in_max + i];
  // Not stored: the matrix that stands for w is rounded once more, the same for all rows.
  dx.check(du, limit_of(context, type, (stored ? 1 : 2) * limit(type)));
  if (p.slopes) check_slopes(x, dx, du, slopes, limit(type));
  expect_near(dw, want_dw, sums, "dw");
  if (p.bias) expect_near(dbias, want_bias, 1e-5, "dbias");
  const Values got = dw.download();  // beyond the prefix: the very bits that were there
  for (int o = 0; o < p.out_max; ++o)
    for (int i = 0; i < p.in_max; ++i) {
      if (o >= p.out || i >= p.in) {
        EXPECT_EQ(got[o * p.in_max + i], dw.values[o * p.in_max + i]);
      }
    }
}

namespace {

using Problem = PointwiseProblem;

void run(const Problem& p) { run(gpu(), p); }

void run_in_both_types(Problem p) {
  run(p);
  p.type = p.y_type = DType::f32;
  run(p);
}

TEST(CudaPointwise, WidthsAndPrefixes) {
  for (const Problem& p : {Problem{1, 1, 8, 8, 8, 8},
                           {2, 5, 16, 24, 64, 72, Act::none},
                           {3, 7, 24, 24, 72, 96, Act::relu},
                           {2, 9, 72, 80, 24, 40, Act::hard_swish},
                           {1, 13, 200, 240, 80, 80, Act::hard_swish},
                           {2, 7, 480, 960, 160, 192, Act::relu6},
                           {2, 7, 160, 160, 480, 1152, Act::none},
                           {1, 40, 40, 48, 136, 136, Act::sigmoid}}) {
    run_in_both_types(p);
  }
}

TEST(CudaPointwise, PlainSourceAndAccumulation) {
  run_in_both_types({2, 6, 40, 40, 120, 120, Act::none, false});
  run_in_both_types(
      {2, 6, 40, 40, 120, 120, Act::relu, true, false, false, true, Write::accumulate});
}

TEST(CudaPointwise, GatedSource) {
  run_in_both_types({5, 7, 72, 72, 40, 48, Act::relu, true, true});
  run_in_both_types({3, 10, 240, 480, 112, 112, Act::hard_swish, true, true});
  for (Problem p : {Problem{5, 7, 72, 72, 40, 48, Act::relu, true, true},
                    {2, 17, 120, 120, 40, 40, Act::hard_swish, true, true},
                    {11, 7, 64, 64, 320, 320, Act::relu6, true, true}}) {
    p.slopes = true;
    run_in_both_types(p);
  }
}

/// An image in one chunk and in several, more chunks than blocks, one after another in a block.
TEST(CudaPointwise, GatedImagesTakenInTurn) {
  Problem p{24, 2, 16, 16, 136, 136, Act::relu, true, true};
  p.slopes = true;
  run(p);
  run({20, 3, 72, 72, 136, 136, Act::relu, true, true});
}

TEST(CudaPointwise, DeferredGradients) {
  for (Problem p : {Problem{3, 7, 24, 24, 72, 96, Act::relu},
                    {2, 9, 72, 80, 24, 40, Act::hard_swish},
                    {2, 7, 40, 40, 320, 320, Act::none},
                    {3, 5, 48, 48, 56, 56, Act::relu6, false, false, true},
                    {3, 5, 48, 48, 56, 56, Act::relu6, false, false, true, false}}) {
    for (const Handed handed : {Handed::deferred, Handed::spread}) {
      p.handed = handed;
      run_in_both_types(p);
    }
  }
}

/// In every kernel that makes dz: both products of a slice, of an output that is not stored, dgrad
/// alone of wide tensors and of floats.
TEST(CudaPointwise, AddsWhatAnotherReaderLeft) {
  for (Problem p : {Problem{3, 7, 24, 24, 72, 96, Act::none},
                    {2, 9, 72, 80, 24, 40, Act::hard_swish},
                    {2, 9, 40, 40, 136, 136, Act::relu, false},
                    {2, 7, 480, 480, 160, 160, Act::relu6},
                    {2, 7, 64, 72, 192, 192, Act::none}}) {
    for (const Addend addend : {Addend::elsewhere, Addend::in_place}) {
      p.addend = addend;
      run_in_both_types(p);
    }
    if (p.in > 72) continue;
    p.handed = Handed::expansion;
    run_in_both_types(p);
  }
}

TEST(CudaPointwise, OutputsThatAreNotStored) {
  for (Problem p :
       {Problem{1, 1, 8, 8, 8, 8},
        {3, 7, 24, 24, 72, 96, Act::none},
        {2, 9, 16, 24, 96, 96, Act::none, false},
        {2, 9, 40, 40, 136, 200, Act::relu},
        {2, 9, 64, 72, 192, 192, Act::none},
        {2, 7, 80, 80, 480, 480, Act::none},
        {2, 7, 160, 200, 320, 960, Act::relu6},
        {2, 9, 24, 24, 72, 72, Act::relu, true, false, false, true, Write::accumulate}}) {
    p.handed = Handed::expansion;
    run_in_both_types(p);
  }
}

/// What cc adds to du is the same in every row, so that the sums over rows show what two bf16 of it
/// would lack. Where dz and u are zero it is all there is.
TEST(CudaPointwise, OutputsThatAreNotStoredHaveAConstantInFloat) {
  const int in = 40;
  for (const int out : {64, 320}) {
    SourceField x(DType::bf16, 1, 2, 2, in, 1, Act::none, false);
    IncomingField dy(DType::bf16, 1, 2, 2, out, 20);
    for (Field* zero : {&x.y, &dy.dz}) {
      for (double& v : zero->values) v = 0;
      zero->upload();
    }
    dy.cc = Field::channels(out, 24, 0.5, 1);
    const Field w = Field::random(DType::bf16, out, 1, 1, in, 5, 0.5, 1);
    const Field dw = Field::random(DType::f32, out, 1, 1, in, 40);
    Values du(x.size());
    for (std::size_t i = 0; i < du.size(); ++i)
      for (int o = 0; o < out; ++o) du[i] += dy.cc.values[o] * w.values[o * in + i % in];
    kernels::Incoming incoming = dy.args();
    incoming.y.data = nullptr;
    const GradField dx(x, 30);
    const Width all{out, out}, few{in, in};
    kernels::cuda::pointwise_backward(gpu(), {incoming,
                                              x.args(),
                                              {w.tensor().data, DType::bf16, all, few, 1},
                                              0,
                                              dx.args(),
                                              {dw.tensor().data, DType::f32, all, few, 1},
                                              nullptr});
    dx.check_sums(du, 8e-7);
  }
}

/// Every slice of the joint kernel, whole and ragged, with rows for several tiles a block.
TEST(CudaPointwise, SlicesOfTheJointKernel) {
  for (const int in : {24, 32, 48, 64, 72, 128, 200})
    for (const int out : {16, 64, 72, 128, 136, 256}) run({3, 13, in, in, out, out});
}

constexpr Problem kClassifiers[] = {
    {128, 1, 200, 1280, 1001, 1001, Act::hard_swish, false, false, true, false},
    {3, 1, 960, 960, 10, 10, Act::relu, true, false, true, false},
    {5, 1, 48, 64, 61, 61, Act::relu6, false, false, true, false}};

TEST(CudaPointwise, ClassifierOfAnyWidth) {
  for (const Problem& p : kClassifiers) run_in_both_types(p);
}

TEST(CudaPointwise, LogitsOfBf16InFloat) {
  for (Problem p : kClassifiers) {
    p.y_type = DType::f32;
    run(p);
  }
}

TEST(CudaPointwise, RefusesMixedTypes) {
  const Field half = Field::random(DType::bf16, 1, 1, 1, 8, 1);
  const Field full = Field::random(DType::f32, 1, 1, 1, 8, 2);
  const Field half_w = Field::random(DType::bf16, 8, 1, 1, 8, 3);
  const Field full_w = Field::random(DType::f32, 8, 1, 1, 8, 4);
  kernels::PointwiseForward forward;
  forward.x.y = full.tensor();
  forward.y = full.tensor();
  forward.w = {half_w.tensor().data, DType::bf16, {8, 8}, {8, 8}};
  EXPECT_THROW(kernels::cuda::pointwise(gpu(), forward), Error);
  forward.w = {full_w.tensor().data, DType::f32, {8, 8}, {8, 8}};
  forward.y = half.tensor();
  EXPECT_THROW(kernels::cuda::pointwise(gpu(), forward), Error);
  kernels::PointwiseBackward backward;
  backward.dy.dz = full.tensor();
  backward.x.y = half.tensor();
  backward.w = {half_w.tensor().data, DType::bf16, {8, 8}, {8, 8}};
  EXPECT_THROW(kernels::cuda::pointwise_backward(gpu(), backward), Error);
}

TEST(CudaPointwise, RefusesWhatDoesNotGoTogether) {
  const SourceField x(DType::bf16, 1, 2, 2, 8, 1, Act::relu, true, true);
  const Field w = Field::random(DType::bf16, 8, 1, 1, 8, 3);
  const IncomingField dy(DType::bf16, 1, 2, 2, 8, 4);
  const DeferredField deferred(1, 8);
  const GradField dx(x, 9);
  const kernels::PointwiseBackward good{
      dy.args(), x.args(), {w.tensor().data, DType::bf16, {8, 8}, {8, 8}}, 0, dx.args(), {}};
  kernels::cuda::pointwise_backward(gpu(), good);
  const auto refuses = [&](const char* what, const auto& spoil) {
    kernels::PointwiseBackward bad = good;
    spoil(bad);
    EXPECT_THROW(kernels::cuda::pointwise_backward(gpu(), bad), Error) << what;
  };
  using Bad = kernels::PointwiseBackward;
  refuses("not stored and gated", [](Bad& b) { b.dy.y.data = nullptr; });
  refuses("nothing spread", [](Bad& b) { b.dy.dz.data = nullptr; });
  refuses("not stored and deferred", [&](Bad& b) {
    b.x.gate = nullptr;
    b.dy.y.data = nullptr;
    b.dy.deferred = deferred.args();
  });
  refuses("a scale without shift", [&](Bad& b) { b.dy.deferred.scale = deferred.scale.f32(); });
  refuses("slopes of an ungated source", [&](Bad& b) {
    b.x.gate = nullptr;
    b.dx.slope_sums = dx.dgate.f32();
  });
  refuses("an addend of a gated source", [&](Bad& b) { b.dx.addend.da = b.dx.dz; });
  refuses("an addend beside a gradient to add to", [&](Bad& b) {
    b.x.gate = nullptr;
    b.dx.addend.da = b.dx.dz;
    b.dx.how = Write::accumulate;
  });
  refuses("accumulation of a gated source", [](Bad& b) { b.dx.how = Write::accumulate; });
  kernels::PointwiseForward forward{x.args(), good.w, nullptr, {}, dy.y.tensor()};
  forward.y.data = nullptr;
  EXPECT_THROW(kernels::cuda::pointwise(gpu(), forward), Error) << "neither output nor moments";
}

/// More tiles than the 528 blocks that take them, side by side in one and in two columns of blocks.
TEST(CudaPointwise, BlocksThatTakeSeveralTiles) {
  run({67700, 1, 8, 8, 8, 8});
  run({33900, 1, 8, 8, 136, 136});
}

}  // namespace
}  // namespace tunas::testing
