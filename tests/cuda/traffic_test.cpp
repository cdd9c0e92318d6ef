// What kernels move, counted by the emulation (tests/emulation), against the floor they declare:
// bytes over cost(args).bytes(), the sectors and bank passes of warps over the fewest possible. The
// limits are kernels::Slack, or what a kernel's header says beside its entry. Not part of a build
// for a GPU: a profiler counts there.
#include <cstdio>

#include "kernels/conv.h"
#include "kernels/depthwise.h"
#include "kernels/dropout.h"
#include "kernels/gate.h"
#include "kernels/image.h"
#include "kernels/mix.h"
#include "kernels/norm.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/softmax_xent.h"
#include "kernels/spread.h"
#include "kernels/update.h"
#include "tests/cuda/reference.h"
#include "tests/emulation/observer.h"

#ifndef __SANITIZE_ADDRESS__
namespace tunas::testing {
namespace {

using emulation::Traffic;

constexpr DType kHalf = DType::bf16;

void hold(const std::string& name, const Traffic& t, double floor, const Slack& slack) {
  const auto ratio = [](double a, double least) { return least > 0 ? a / least : 1; };
  const double bytes = ratio(t.bytes(), floor), partials = ratio(t.scratch_bytes(), floor);
  const double sectors = ratio(t.warp_sectors, t.least_warp_sectors);
  const double banks = ratio(t.bank_passes, t.least_bank_passes);
  std::printf("[ traffic  ] %-36s %5.2f MB; bytes %.2f, partials %.2f, sectors %.2f, banks %.2f\n",
              name.c_str(), floor / 1e6, bytes, partials, sectors, banks);
  EXPECT_LE(bytes, slack.bytes) << name;
  EXPECT_LE(partials, slack.partials) << name;
  EXPECT_LE(sectors, slack.sectors) << name;
  EXPECT_LE(banks, slack.banks) << name;
  EXPECT_GT(bytes, 0.95) << name << ": less than a kernel must move was counted";
}

template <class Args>
void hold(const std::string& name, void (*kernel)(CudaContext&, const Args&), const Args& args,
          const Slack& slack = {}) {
  emulation::count_traffic(gpu().workspace);
  kernel(gpu(), args);
  hold(name, emulation::traffic(), cost(args).bytes(), slack);
}

/// Channels of a norm.
Field ones(int c) { return Field::channels(c, 9, 0.5, 1); }

struct Statistics {
  Field mean, variance;
  explicit Statistics(int c) : mean(ones(c)), variance(ones(c)) {}
  kernels::Moments args() const { return {mean.f32(), variance.f32()}; }
};

TEST(CudaTraffic, Pointwise) {
  struct Case {
    int n, hw, in, out;
    bool gated;
    Slack forward, backward;
  };
  using namespace kernels::cuda;  // NOLINT: the names of a table
  for (const Case& p :
       {Case{4, 56, 24, 72, false, kPointwiseSlack, kPointwiseBackwardSlack},
        {4, 56, 72, 24, false, kPointwiseSlack, kPointwiseBackwardSlack},
        {8, 28, 72, 40, true, kPointwiseSlack, kPointwiseBackwardSlack},
        {4, 14, 80, 480, false, kPointwiseWideSlack, kPointwiseWideBackwardSlack},
        {4, 14, 480, 112, true, kPointwiseWideSlack, kPointwiseSlicedBackwardSlack},
        {16, 7, 160, 960, false, kPointwiseWideSlack, kPointwiseWideBackwardSlack},
        {16, 7, 960, 160, false, kPointwiseWideSlack, kPointwiseSlicedBackwardSlack}}) {
    const SourceField x(kHalf, p.n, p.hw, p.hw, p.in, 1, Act::relu6, true, p.gated);
    const Field w = Field::random(kHalf, p.out, 1, 1, p.in, 5);
    const Filter filter{w.tensor().data, kHalf, {p.out, p.out}, {p.in, p.in}, 1};
    const Field y(kHalf, p.n, p.hw, p.hw, p.out);
    const Statistics s(p.out);
    const std::string name = std::string(p.gated ? " gated " : " ") + std::to_string(p.in) +
                             " to " + std::to_string(p.out);
    hold("pointwise" + name, pointwise, {x.args(), filter, nullptr, s.args(), y.tensor()},
         p.forward);

    const IncomingField dy(kHalf, p.n, p.hw, p.hw, p.out, 20);
    const GradField dx(x, 30);
    const Field dw = Field::random(DType::f32, p.out, 1, 1, p.in, 40);
    const Filter sum{dw.tensor().data, DType::f32, {p.out, p.out}, {p.in, p.in}, 1};
    hold("pointwise backward" + name, pointwise_backward,
         {dy.args(), x.args(), filter, 0, dx.args(), sum}, p.backward);
    if (p.gated || p.hw == 7) continue;
    const GradField added(x, 30, Write::overwrite, Addend::elsewhere);
    hold("pointwise backward addend" + name, pointwise_backward,
         {dy.args(), x.args(), filter, 0, added.args(), sum}, p.backward);
  }
}

/// Expansions that are not stored, their readers' gradients made of dz and x alone.
TEST(CudaTraffic, PointwiseNotStored) {
  struct Case {
    int n, hw, in, out;
    Slack backward;
  };
  using namespace kernels::cuda;  // NOLINT: the names of a table
  for (const Case& p : {Case{4, 56, 24, 72, kPointwiseBackwardSlack},
                        {4, 14, 80, 480, kPointwiseNotStoredBackwardSlack},
                        {16, 7, 160, 960, kPointwiseNotStoredBackwardSlack}}) {
    const SourceField x(kHalf, p.n, p.hw, p.hw, p.in, 1, Act::none);
    const Field w = Field::random(kHalf, p.out, 1, 1, p.in, 5);
    const Filter filter{w.tensor().data, kHalf, {p.out, p.out}, {p.in, p.in}, 1};
    const Statistics s(p.out);
    const std::string name = " not stored " + std::to_string(p.in) + " to " + std::to_string(p.out);
    const IncomingField dy(kHalf, p.n, p.hw, p.hw, p.out, 20);
    Tensor y = dy.y.tensor();
    y.data = nullptr;
    hold("pointwise" + name, pointwise, {x.args(), filter, nullptr, s.args(), y},
         kPointwiseNotStoredSlack);
    kernels::Incoming incoming = dy.args();
    incoming.y = y;
    const GradField dx(x, 30);
    const Field dw = Field::random(DType::f32, p.out, 1, 1, p.in, 40);
    const Filter sum{dw.tensor().data, DType::f32, {p.out, p.out}, {p.in, p.in}, 1};
    hold("pointwise backward" + name, pointwise_backward,
         {incoming, x.args(), filter, 0, dx.args(), sum}, p.backward);
  }
}

TEST(CudaTraffic, Depthwise) {
  struct Case {
    int n, hw, c;
  };
  for (const int k : {3, 5, 7})
    for (const int stride : {1, 2})
      for (const Case& p : {Case{2, 56, 72}, {6, 14, 240}}) {
        const Axis axis = pad_axis(Padding::same, p.hw, k, stride);
        const SourceField x(kHalf, p.n, p.hw, p.hw, p.c, 1, Act::relu6);
        const Field w = Field::random(kHalf, k, k, 1, p.c, 5);
        const Filter filter{w.tensor().data, kHalf, {}, {p.c, p.c}, k};
        const Field y(kHalf, p.n, axis.out, axis.out, p.c);
        const Statistics s(p.c);
        const int before = axis.before;
        const std::string name = " k=" + std::to_string(k) + " s=" + std::to_string(stride) +
                                 " hw=" + std::to_string(p.hw);
        hold("depthwise" + name, kernels::cuda::depthwise,
             {x.args(), filter, stride, before, before, s.args(), y.tensor()},
             kernels::cuda::depthwise_slack(k));
        const IncomingField dy(kHalf, p.n, axis.out, axis.out, p.c, 20);
        const GradField dx(x, 30);
        const Field dw = Field::random(DType::f32, k, k, 1, p.c, 40);
        const Filter sum{dw.tensor().data, DType::f32, {}, {p.c, p.c}, k};
        hold("depthwise backward" + name, kernels::cuda::depthwise_backward,
             {dy.args(), x.args(), filter, stride, before, before, 0, dx.args(), sum},
             kernels::cuda::depthwise_backward_slack(k));
      }
}

TEST(CudaTraffic, DepthwiseOfAnExpansion) {
  struct Case {
    int n, hw, from, c, k, stride;
  };
  for (const Case& p : {Case{1, 112, 16, 64, 3, 2},
                        {2, 56, 24, 72, 3, 1},
                        {4, 28, 40, 240, 3, 2},
                        {4, 28, 40, 120, 5, 1}}) {
    const Axis axis = pad_axis(Padding::same, p.hw, p.k, p.stride);
    SourceField x(kHalf, p.n, p.hw, p.hw, p.c, 1, Act::relu6);
    const ExpansionField field(x, p.from, 60, Act::none);
    kernels::Source source = x.args();
    source.y.data = nullptr;
    const Field w = Field::random(kHalf, p.k, p.k, 1, p.c, 5);
    const Filter filter{w.tensor().data, kHalf, {}, {p.c, p.c}, p.k};
    const Field y(kHalf, p.n, axis.out, axis.out, p.c);
    const Statistics s(p.c);
    const int before = axis.before;
    const std::string name = std::to_string(p.from) + " to " + std::to_string(p.c) +
                             " k=" + std::to_string(p.k) + " s=" + std::to_string(p.stride);
    hold("depthwise " + name, kernels::cuda::depthwise,
         {source, filter, p.stride, before, before, s.args(), y.tensor(), field.args()},
         kernels::cuda::kDepthwiseExpandedSlack);
    const IncomingField dy(kHalf, p.n, axis.out, axis.out, p.c, 20);
    const GradField dx(x, 30);
    const Field dw = Field::random(DType::f32, p.k, p.k, 1, p.c, 40);
    const Filter sum{dw.tensor().data, DType::f32, {}, {p.c, p.c}, p.k};
    hold("depthwise backward " + name, kernels::cuda::depthwise_backward,
         {dy.args(), source, filter, p.stride, before, before, 0, dx.args(), sum, field.args()},
         kernels::cuda::kDepthwiseExpandedBackwardSlack);
  }
}

TEST(CudaTraffic, DepthwiseDeferredOrWithAnAddend) {
  for (const int k : {3, 5}) {
    const int n = 2, hw = 28, c = 72;
    const SourceField x(kHalf, n, hw, hw, c, 1, Act::relu6);
    const Field w = Field::random(kHalf, k, k, 1, c, 5);
    const Filter filter{w.tensor().data, kHalf, {}, {c, c}, k};
    const GradField dx(x, 30);
    const Field dw = Field::random(DType::f32, k, k, 1, c, 40);
    const Filter sum{dw.tensor().data, DType::f32, {}, {c, c}, k};
    for (const bool da : {true, false}) {
      const IncomingField dy(kHalf, n, hw, hw, c, 20, true, {true, Act::hard_swish, 1, true, da});
      hold(std::string("depthwise backward deferred") + (da ? "" : " spread") +
               " k=" + std::to_string(k),
           kernels::cuda::depthwise_backward,
           {dy.args(), x.args(), filter, 1, k / 2, k / 2, 0, dx.args(), sum},
           kernels::cuda::depthwise_backward_slack(k));
    }
    const IncomingField dy(kHalf, n, hw, hw, c, 20);
    const GradField added(x, 30, Write::overwrite, Addend::elsewhere);
    hold("depthwise backward addend k=" + std::to_string(k), kernels::cuda::depthwise_backward,
         {dy.args(), x.args(), filter, 1, k / 2, k / 2, 0, added.args(), sum},
         kernels::cuda::depthwise_backward_slack(k));
  }
}

TEST(CudaTraffic, Stem) {
  for (const int c : {16, 32}) {
    const int n = 4, size = 98, out = 48;
    const Field image = Field::random(kHalf, n, size, size, 4, 1);
    const Field w = Field::random(kHalf, c, 1, 1, 36, 2);
    const Filter filter{w.tensor().data, kHalf, {c, c}, {4, 4}, 3};
    const Field y(kHalf, n, out, out, c);
    const Statistics s(c);
    const std::string name = " c=" + std::to_string(c);
    hold("conv" + name, kernels::cuda::conv,
         {image.tensor(), filter, 2, 1, 1, s.args(), y.tensor()}, kernels::cuda::kConvSlack);
    const IncomingField dy(kHalf, n, out, out, c, 20);
    const Field dw = Field::random(DType::f32, c, 1, 1, 36, 40);
    hold("conv backward" + name, kernels::cuda::conv_backward,
         {dy.args(),
          image.tensor(),
          filter,
          2,
          1,
          1,
          0,
          {dw.tensor().data, DType::f32, {c, c}, {4, 4}, 3}},
         kernels::cuda::kConvBackwardSlack);
  }
}

TEST(CudaTraffic, Mix) {
  for (const int c : {40, 184}) {
    const int n = 8, hw = 28;
    const Field out(kHalf, n, hw, hw, c);
    const SourceField x(kHalf, n, hw, hw, c, 1, Act::relu6), r(kHalf, n, hw, hw, c, 5, Act::none);
    const std::string name = " c=" + std::to_string(c);
    kernels::MixForward args;
    args.out = out.tensor();
    args.x[0] = x.args();
    args.x[1] = r.args();
    args.weight[0] = args.weight[1] = 1;
    for (args.terms = 1; args.terms <= 2; ++args.terms) {
      hold("mix" + name + " terms=" + std::to_string(args.terms), kernels::cuda::mix, args,
           kernels::cuda::kMixSlack);
    }
    for (const Write how : {Write::overwrite, Write::accumulate}) {
      const GradField dx(x, 60, how);
      hold("mix backward" + name, kernels::cuda::mix_backward,
           {out.tensor(), 0.5f, x.args(), dx.args()}, kernels::cuda::kMixSlack);
    }
  }
}

TEST(CudaTraffic, MixSums) {
  for (const int c : {40, 184}) {
    const int n = 4, hw = 28;
    const Field dout = Field::random(kHalf, n, hw, hw, c, 50);
    std::vector<SourceField> x;
    std::vector<GradField> dx;
    x.reserve(kernels::MixForward::kMaxTerms);
    kernels::MixSums args;
    args.dout = dout.tensor();
    for (int t = 0; t < kernels::MixForward::kMaxTerms; ++t) {
      x.emplace_back(kHalf, n, hw, hw, c, 10 * t, t % 2 == 0 ? Act::relu6 : Act::none);
      const GradField& g = dx.emplace_back(x[t], 60 + 10 * t);
      args.term[t] = {1,          g.x.args(), Write::overwrite, g.mean.f32(), g.inv_std.f32(),
                      g.s1.f32(), g.s2.f32()};
    }
    for (args.terms = 1; args.terms <= kernels::MixForward::kMaxTerms; ++args.terms) {
      hold("mix sums c=" + std::to_string(c) + " terms=" + std::to_string(args.terms),
           kernels::cuda::mix_sums, args, kernels::cuda::kMixSumsSlack);
    }
  }
}

TEST(CudaTraffic, PoolAndGate) {
  const int n = 16, hw = 14, c = 240;
  const SourceField x(kHalf, n, hw, hw, c, 1, Act::hard_swish);
  const Field y = Field::random(kHalf, n, 1, 1, c, 2), partial(kHalf, n, hw, hw, c);
  hold("pool", kernels::cuda::pool, {x.args(), y.tensor()}, kernels::cuda::kPoolSlack);
  const GradField dx(x, 60);
  const Field slopes = Field::random(DType::f32, 2 * n, 1, 1, c, 4), spread(DType::f32, n, 1, 1, c);
  const Field gated = Field::random(DType::f32, 2 * n, 1, 1, c, 5);
  hold("pool with slopes", kernels::cuda::pool, {x.args(), y.tensor(), dx.mean.f32(), slopes.f32()},
       kernels::cuda::kPoolSlack);
  hold("spread", kernels::cuda::spread,
       {y.tensor(), hw * hw, slopes.f32(), nullptr, dx.inv_std.f32(), spread.f32(), dx.s1.f32(),
        dx.s2.f32()});
  hold("spread of a gated", kernels::cuda::spread,
       {y.tensor(), hw * hw, slopes.f32(), gated.f32(), dx.inv_std.f32(), spread.f32(), dx.s1.f32(),
        dx.s2.f32()});
  hold("pool backward", kernels::cuda::pool_backward, {y.tensor(), x.args(), {}, dx.args()},
       kernels::cuda::kPoolSlack);
  hold("pool backward of a gated", kernels::cuda::pool_backward,
       {y.tensor(), x.args(), dx.dz.tensor(), dx.args()}, kernels::cuda::kPoolSlack);
  const Field gate = Field::random(DType::f32, n, 1, 1, c, 3), dgate_x(kHalf, n, 1, 1, c);
  hold("gate", kernels::cuda::gate, {y.tensor(), Act::sigmoid, 0, 1, gate.tensor()},
       kernels::cuda::kGateSlack);
  hold("gate backward", kernels::cuda::gate_backward,
       {y.tensor(), Act::sigmoid, 1, gate.tensor(), dgate_x.tensor()}, kernels::cuda::kGateSlack);
}

TEST(CudaTraffic, Dropout) {
  const int n = 128, c = 1280;
  const SourceField x(kHalf, n, 1, 1, c, 1, Act::hard_swish);
  const Field out(kHalf, n, 1, 1, c);
  const PhiloxKey numbers{77, Purpose::dropout, 3, 5};
  const Buffer buffer(sizeof numbers);
  cuda_ok(cudaMemcpy(buffer.data(), &numbers, sizeof numbers, cudaMemcpyHostToDevice));
  const auto* key = static_cast<const PhiloxKey*>(buffer.data());
  hold("dropout", kernels::cuda::dropout, {x.args(), 0.2f, key, out.tensor()},
       kernels::cuda::kDropoutSlack);
  const GradField dx(x, 60);
  hold("dropout backward", kernels::cuda::dropout_backward,
       {out.tensor(), x.args(), 0.2f, key, dx.args()}, kernels::cuda::kDropoutSlack);
}

TEST(CudaTraffic, Norm) {
  const int c = 960;
  std::vector<Field> f;
  for (int i = 0; i < 12; ++i) f.push_back(ones(c));
  hold("norm", kernels::cuda::norm,
       {c, 196, 1e-3f, f[0].f32(), f[1].f32(), f[2].f32(), f[3].f32(), f[4].f32(), f[5].f32(),
        f[6].f32(), 0.99f, f[7].f32(), f[8].f32()});
  hold("norm backward", kernels::cuda::norm_backward,
       {c, 196, f[0].f32(), f[1].f32(), f[2].f32(), f[3].f32(), f[4].f32(), f[5].f32(), f[6].f32(),
        f[7].f32(), f[8].f32(), f[9].f32()});
}

TEST(CudaTraffic, SoftmaxXent) {
  const int n = 32, classes = 1001, width = round_up_8(classes);
  const Field logits = Field::random(DType::f32, n, 1, 1, width, 1);
  const Field loss(DType::f32, n, 1, 1, 1), dlogits(kHalf, n, 1, 1, width);
  const Buffer labels(n * 4), ranks(n * 4);
  cuda_ok(cudaMemset(labels.data(), 0, n * 4));
  hold("softmax_xent", kernels::cuda::softmax_xent,
       {logits.tensor(), classes, static_cast<const std::int32_t*>(labels.data()), 0.1f, loss.f32(),
        static_cast<std::int32_t*>(ranks.data()), dlogits.tensor()});
}

TEST(CudaTraffic, Updates) {
  const int size = 100003;
  const Field grad = ones(size), w = ones(size), ms = ones(size), mom = ones(size);
  const Field shadow(kHalf, 1, 1, 1, size);
  const auto count = static_cast<std::size_t>(size);
  kernels::RmsProp rms{count, grad.f32(), w.f32(), ms.f32(), mom.f32()};
  hold("rms_prop", kernels::cuda::rms_prop, rms);
  kernels::Sgd sgd{count, grad.f32(), w.f32(), mom.f32()};
  hold("sgd", kernels::cuda::sgd, sgd);
  hold("add", kernels::cuda::add, {count, w.f32(), grad.f32()});
  hold("average", kernels::cuda::average, {count, grad.f32(), w.f32()});
  const Buffer verdict(sizeof(kernels::Verdict));
  hold("finite check", kernels::cuda::finite_check,
       {count, grad.f32(), static_cast<kernels::Verdict*>(verdict.data())});
  // The shadow is not part of the declared floor: 2 bytes a parameter beside 28 and 20.
  rms.shadow = sgd.shadow = shadow.tensor().data;
  hold("rms_prop with shadow", kernels::cuda::rms_prop, rms);
  hold("sgd with shadow", kernels::cuda::sgd, sgd);
}

TEST(CudaTraffic, Image) {
  const int n = 2, h = 120, w = 93, size = 64;
  std::vector<Crop> crops;
  for (int i = 0; i < n; ++i) crops.push_back({std::uint64_t(i) * 3 * h * w, h, w, 3 * w, i == 1});
  const Buffer pixels(3UL * n * h * w), device_crops(n * sizeof(Crop));
  cuda_ok(cudaMemset(pixels.data(), 77, pixels.bytes()));
  cuda_ok(cudaMemcpy(device_crops.data(), crops.data(), n * sizeof(Crop), cudaMemcpyHostToDevice));
  const Field out(kHalf, n, size + 2, size + 2, 4);
  for (const Resample mode : {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear}) {
    kernels::Image args;
    args.pixels = static_cast<const std::uint8_t*>(pixels.data());
    args.crops = static_cast<const Crop*>(device_crops.data());
    args.crop_pixels = 1.0 * n * h * w;
    args.resample = mode;
    args.border = 1;
    args.out = out.tensor();
    emulation::count_traffic(gpu().workspace);
    kernels::cuda::image(gpu(), args);
    const Traffic t = emulation::traffic();
    hold("image mode " + std::to_string(static_cast<int>(mode)), t, cost(args).bytes(),
         kernels::cuda::kImageSlack);
  }
}

}  // namespace
}  // namespace tunas::testing
#endif
