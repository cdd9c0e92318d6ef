// Every kernel at the shapes of MobileNetV3-Large and of the search spaces, and expansions with
// what is behind them, stored or not, of MobileNetV2 as well; batch 128, bf16:
// median time, bytes of the declared floor, GB/s, percent of the copy bandwidth measured first.
//
//   kernel_bench OUT.json [SUBSTRING]        only problems whose name contains SUBSTRING
//
// Inputs rotate through more memory than the second-level cache holds. A time is that of a run of
// launches, so it contains the small second kernels and the gaps between launches.
#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda/problems.h"
#include "kernels/conv.h"
#include "kernels/depthwise.h"
#include "kernels/image.h"
#include "kernels/mix.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/softmax_xent.h"
#include "kernels/spread.h"
#include "kernels/update.h"

namespace tunas {
namespace {

using kernels::DepthwiseBackward;
using kernels::DepthwiseForward;
using kernels::PointwiseBackward;
using kernels::PointwiseForward;

double bytes(int hw, int c) { return 2.0 * kBatch * hw * hw * c; }

struct Window {
  int hw, c, k, s;
  Act act;

  Axis axis() const { return pad_axis(Padding::same, hw, k, s); }
  double in() const { return bytes(hw, c); }
  double out() const { return bytes(axis().out, c); }
  std::string name() const {
    return "hw=" + std::to_string(hw) + " c=" + std::to_string(c) + " k=" + std::to_string(k) +
           " s=" + std::to_string(s);
  }
};

DepthwiseForward depthwise_forward(Bench& b, const Window& l) {
  const Filter w{b.pool.take(2u * l.k * l.k * l.c), DType::bf16, {}, {l.c, l.c}, l.k};
  const Axis axis = l.axis();
  return {b.source(l.hw, l.c, l.act),
          w,
          l.s,
          axis.before,
          axis.before,
          {b.pool.floats(l.c), b.pool.floats(l.c)},
          b.pool.tensor(axis.out, l.c)};
}

DepthwiseBackward depthwise_backward(Bench& b, const Window& l) {
  const Filter w{b.pool.take(2u * l.k * l.k * l.c), DType::bf16, {}, {l.c, l.c}, l.k};
  const Filter dw{b.pool.take(4u * l.k * l.k * l.c), DType::f32, {}, {l.c, l.c}, l.k};
  const Axis axis = l.axis();
  const kernels::Source x = b.source(l.hw, l.c, l.act);
  return {b.incoming(axis.out, l.c), x, w, l.s, axis.before, axis.before, 1e-5f, b.grad(x.y), dw};
}

void depthwise(Bench& b, const Window& l) {
  b.problem("depthwise " + l.name() + " forward", l.in() + l.out(), [&] {
    return [args = depthwise_forward(b, l), &b] { kernels::cuda::depthwise(b.context, args); };
  });
  b.problem("depthwise " + l.name() + " backward", 2 * (l.in() + l.out()), [&] {
    return [args = depthwise_backward(b, l), &b] {
      kernels::cuda::depthwise_backward(b.context, args);
    };
  });
}

PointwiseForward pointwise_forward(Bench& b, int hw, int in, int out, Act act) {
  const Filter w{b.pool.take(2u * in * out), DType::bf16, {out, out}, {in, in}, 1};
  return {b.source(hw, in, act),
          w,
          nullptr,
          {b.pool.floats(out), b.pool.floats(out)},
          b.pool.tensor(hw, out)};
}

PointwiseBackward pointwise_backward(Bench& b, int hw, int in, int out, Act act) {
  const Filter w{b.pool.take(2u * in * out), DType::bf16, {out, out}, {in, in}, 1};
  const Filter dw{b.pool.take(4u * in * out), DType::f32, w.out, w.in, 1};
  const kernels::Source u = b.source(hw, in, act);
  return {b.incoming(hw, out), u, w, 1e-5f, b.grad(u.y), dw, nullptr};
}

void pointwise(Bench& b, int hw, int in, int out, Act act) {
  const std::string name = "pointwise hw=" + std::to_string(hw) + " in=" + std::to_string(in) +
                           " out=" + std::to_string(out);
  const double both = bytes(hw, in) + bytes(hw, out);
  b.problem(name + " forward", both, [&] {
    return [args = pointwise_forward(b, hw, in, out, act), &b] {
      kernels::cuda::pointwise(b.context, args);
    };
  });
  b.problem(name + " backward", 2 * both, [&] {
    return [args = pointwise_backward(b, hw, in, out, act), &b] {
      kernels::cuda::pointwise_backward(b.context, args);
    };
  });
}

/// Two kernels one after the other: a line for both and one for each.
struct Half {
  const char* name;
  double bytes;
};
using Calls = std::array<std::function<void()>, 2>;
void pair(Bench& b, const std::string& name, const Half& first, const Half& second,
          const std::function<Calls()>& make) {
  b.problem(name, first.bytes + second.bytes, [&]() -> std::function<void()> {
    return [calls = make()] {
      for (const auto& call : calls) call();
    };
  });
  b.problem(name + first.name, first.bytes, [&] { return make()[0]; });
  b.problem(name + second.name, second.bytes, [&] { return make()[1]; });
}

/// An expansion from `in` channels and the depthwise convolution behind it, with y of the first
/// stored or made again by the second (Expansion of source.h): the lines that say where
/// engine/ops/pointwise.cpp should do which. A pair's bytes are the floor of that way.
void expansion(Bench& b, int in, const Window& l) {
  const double u = bytes(l.hw, in), y = l.in();
  for (const bool stored : {true, false}) {
    const std::string name =
        "expansion in=" + std::to_string(in) + " " + l.name() + (stored ? " stored" : " unstored");
    const double kept = stored ? y : 0, read = stored ? y : u;
    const auto connect = [=](kernels::Source& x, kernels::Expansion& made, Tensor& between,
                             const kernels::Source& from, const Filter& w) {
      if (!stored) made = {from, w};
      if (!stored) between.data = nullptr;
      x.y = between;
    };
    const Half pointwise{" pointwise", u + kept}, depthwise{" depthwise", read + l.out()};
    pair(b, name + " forward", pointwise, depthwise, [&]() -> Calls {
      PointwiseForward first = pointwise_forward(b, l.hw, in, l.c, Act::none);
      DepthwiseForward second = depthwise_forward(b, l);
      connect(second.x, second.expansion, first.y, first.x, first.w);
      return {[=, &b] { kernels::cuda::pointwise(b.context, first); },
              [=, &b] { kernels::cuda::depthwise(b.context, second); }};
    });
    const Half back{" depthwise", 2 * l.out() + read + y}, on{" pointwise", 2 * u + y + kept};
    pair(b, name + " backward", back, on, [&]() -> Calls {
      DepthwiseBackward first = depthwise_backward(b, l);
      PointwiseBackward second = pointwise_backward(b, l.hw, in, l.c, Act::none);
      connect(first.x, first.expansion, second.dy.y, second.x, second.w);
      second.dy.dz = first.dx.dz;
      return {[=, &b] { kernels::cuda::depthwise_backward(b.context, first); },
              [=, &b] { kernels::cuda::pointwise_backward(b.context, second); }};
    });
  }
}

void conv(Bench& b, int out) {
  const double image = 2.0 * kBatch * 226 * 226 * 4, y = 2.0 * kBatch * 112 * 112 * out;
  const std::string name = "conv hw=224 out=" + std::to_string(out);
  const Filter shape{nullptr, DType::bf16, {out, out}, {4, 4}, 3};
  b.problem(name + " forward", image + y, [&] {
    Filter w = shape;
    w.data = b.pool.take(72u * out);
    kernels::ConvForward args{
        b.pool.tensor(226, 4),  w, 2, 1, 1, {b.pool.floats(out), b.pool.floats(out)},
        b.pool.tensor(112, out)};
    return [=, &b] { kernels::cuda::conv(b.context, args); };
  });
  b.problem(name + " backward", image + 2 * y, [&] {
    Filter w = shape, dw = shape;
    w.data = b.pool.take(72u * out);
    dw.data = b.pool.take(144u * out);
    dw.type = DType::f32;
    kernels::ConvBackward args{b.incoming(112, out), b.pool.tensor(226, 4), w, 2, 1, 1, 1e-5f, dw};
    return [=, &b] { kernels::cuda::conv_backward(b.context, args); };
  });
}

void maps(Bench& b, int hw, int c) {
  const double one = 2.0 * kBatch * hw * hw * c;
  const std::string name = " hw=" + std::to_string(hw) + " c=" + std::to_string(c);
  b.problem("mix of 2" + name + " forward", 3 * one, [&] {
    kernels::MixForward args;
    args.terms = 2;
    for (int t = 0; t < 2; ++t) {
      args.weight[t] = 1;
      args.x[t] = b.source(hw, c, Act::none);
    }
    args.out = b.pool.tensor(hw, c);
    return [=, &b] { kernels::cuda::mix(b.context, args); };
  });
  b.problem("mix" + name + " backward", 3 * one, [&] {
    const kernels::Source x = b.source(hw, c, Act::relu6);
    kernels::MixBackward args{b.pool.tensor(hw, c), 1, x, b.grad(x.y)};
    return [=, &b] { kernels::cuda::mix_backward(b.context, args); };
  });
  b.problem("mix of 2" + name + " sums", 3 * one, [&] {
    kernels::MixSums args;
    args.dout = b.pool.tensor(hw, c);
    args.terms = 2;
    for (int t = 0; t < 2; ++t) {
      args.term[t] = {1,
                      b.source(hw, c, Act::none),
                      Write::overwrite,
                      b.pool.floats(c),
                      b.pool.floats(c),
                      b.pool.floats(c),
                      b.pool.floats(c)};
    }
    return [=, &b] { kernels::cuda::mix_sums(b.context, args); };
  });
  b.problem("pool" + name + " forward", one, [&] {
    kernels::PoolForward args{b.source(hw, c, Act::hard_swish), b.pool.tensor(1, c)};
    return [=, &b] { kernels::cuda::pool(b.context, args); };
  });
  const std::size_t images = std::size_t{kBatch} * c;
  b.problem("pool" + name + " forward with slopes", one + 8.0 * images, [&] {
    kernels::PoolForward args{b.source(hw, c, Act::hard_swish), b.pool.tensor(1, c),
                              b.pool.floats(c), b.pool.floats(2 * images)};
    return [=, &b] { kernels::cuda::pool(b.context, args); };
  });
  b.problem("spread" + name, 22.0 * images, [&] {
    kernels::Spread args{b.pool.tensor(1, c),       hw * hw,          b.pool.floats(2 * images),
                         b.pool.floats(2 * images), b.pool.floats(c), b.pool.floats(images),
                         b.pool.floats(c),          b.pool.floats(c)};
    return [=, &b] { kernels::cuda::spread(b.context, args); };
  });
  b.problem("pool" + name + " backward", 3 * one, [&] {
    const kernels::Source x = b.source(hw, c, Act::hard_swish);
    kernels::PoolBackward args{b.pool.tensor(1, c), x, b.pool.tensor(hw, c), b.grad(x.y)};
    return [=, &b] { kernels::cuda::pool_backward(b.context, args); };
  });
}

void update(Bench& b) {
  const std::size_t size = 5'483'032;  // MobileNetV3-Large
  b.problem("rms_prop with shadow", static_cast<double>(size) * (7 * 4 + 2), [&] {
    kernels::RmsProp args{size,
                          b.pool.floats(size),
                          b.pool.floats(size),
                          b.pool.floats(size),
                          b.pool.floats(size),
                          1,
                          1e-6f,
                          0.9f,
                          0.9f,
                          1.0f,
                          b.pool.take(2 * size)};
    return [=, &b] { kernels::cuda::rms_prop(b.context, args); };
  });
}

/// Crops of 256 x 256 bytes to 224 x 224, with the stem's border.
void image(Bench& b, Resample how, const char* name) {
  constexpr int kSide = 256;
  const double in = 3.0 * kBatch * kSide * kSide, out = 2.0 * 4 * kBatch * 226 * 226;
  b.problem(std::string("image ") + name, in + out, [&] {
    const std::size_t each = std::size_t{3} * kSide * kSide;
    kernels::Image args;
    args.pixels = reinterpret_cast<std::uint8_t*>(b.pool.take(kBatch * each));
    std::vector<Crop> crops;
    for (int i = 0; i < kBatch; ++i) {
      crops.push_back({i * each, kSide, kSide, 3 * kSide, i % 2 == 1});
    }
    auto* there = b.pool.take(kBatch * sizeof(Crop));
    ok(cudaMemcpy(there, crops.data(), kBatch * sizeof(Crop), cudaMemcpyHostToDevice));
    args.crops = reinterpret_cast<Crop*>(there);
    args.resample = how;
    args.border = 1;
    args.out = b.pool.tensor(226, 4);
    return [=, &b] { kernels::cuda::image(b.context, args); };
  });
}

void softmax(Bench& b) {
  const int classes = 1001, width = 1008;
  b.problem("softmax_xent classes=1001", kBatch * width * (4.0 + 2.0), [&] {
    kernels::SoftmaxXent args;
    args.logits = {b.pool.take(std::size_t{4} * kBatch * width), DType::f32, kBatch, 1, 1, width};
    args.classes = classes;
    auto* labels = b.pool.take(kBatch * 4);
    ok(cudaMemset(labels, 0, kBatch * 4));
    args.labels = reinterpret_cast<std::int32_t*>(labels);
    args.loss = b.pool.floats(kBatch);
    args.rank = reinterpret_cast<std::int32_t*>(b.pool.floats(kBatch));
    args.dlogits = b.pool.tensor(1, width);
    return [=, &b] { kernels::cuda::softmax_xent(b.context, args); };
  });
}

void run(Bench& b) {
  const Window windows[] = {{112, 16, 3, 1, Act::hard_swish}, {112, 64, 3, 2, Act::relu},
                            {56, 72, 3, 1, Act::relu},        {56, 72, 5, 2, Act::relu},
                            {28, 120, 5, 1, Act::relu},       {28, 240, 3, 2, Act::hard_swish},
                            {14, 200, 3, 1, Act::hard_swish}, {14, 480, 3, 1, Act::hard_swish},
                            {14, 672, 5, 2, Act::hard_swish}, {7, 960, 5, 1, Act::hard_swish},
                            {112, 32, 3, 1, Act::relu6},      {112, 96, 3, 2, Act::relu6},
                            {56, 144, 3, 1, Act::relu6},      {28, 192, 3, 1, Act::relu6},
                            {14, 576, 3, 1, Act::relu6},      {7, 960, 3, 1, Act::relu6},
                            {112, 96, 5, 2, Act::relu6},      {112, 96, 7, 2, Act::relu6},
                            {56, 144, 5, 1, Act::relu6},      {56, 144, 7, 1, Act::relu6},
                            {28, 240, 7, 1, Act::relu6},      {14, 576, 5, 1, Act::relu6},
                            {14, 576, 7, 1, Act::relu6},      {7, 1152, 7, 1, Act::relu6}};
  for (const Window& w : windows) depthwise(b, w);
  struct Product {
    int hw, in, out;
    Act act;
  };
  const Product products[] = {{112, 16, 16, Act::relu},        {112, 16, 64, Act::none},
                              {56, 64, 24, Act::relu},         {56, 24, 72, Act::none},
                              {56, 72, 24, Act::relu},         {28, 72, 40, Act::relu},
                              {28, 40, 120, Act::none},        {28, 120, 40, Act::relu},
                              {28, 40, 240, Act::none},        {14, 240, 80, Act::hard_swish},
                              {14, 80, 200, Act::none},        {14, 200, 80, Act::hard_swish},
                              {14, 80, 480, Act::none},        {14, 480, 112, Act::hard_swish},
                              {14, 112, 672, Act::none},       {14, 672, 112, Act::hard_swish},
                              {7, 672, 160, Act::hard_swish},  {7, 160, 960, Act::none},
                              {7, 960, 160, Act::hard_swish},  {1, 960, 1280, Act::none},
                              {1, 1280, 1000, Act::hard_swish}};
  for (const Product& p : products) pointwise(b, p.hw, p.in, p.out, p.act);
  struct Expanded {
    int in;
    Window window;
  };
  // Of MobileNetV3-Large, then of MobileNetV2, to where it should not pay any more.
  const Expanded expansions[] = {
      {16, {112, 64, 3, 2, Act::relu}},       {24, {56, 72, 3, 1, Act::relu}},
      {24, {56, 72, 5, 2, Act::relu}},        {40, {28, 120, 5, 1, Act::relu}},
      {40, {28, 240, 3, 2, Act::hard_swish}}, {80, {14, 200, 3, 1, Act::hard_swish}},
      {80, {14, 480, 3, 1, Act::hard_swish}}, {112, {14, 672, 5, 2, Act::hard_swish}},
      {160, {7, 960, 5, 1, Act::hard_swish}}, {16, {112, 96, 3, 2, Act::relu6}},
      {24, {56, 144, 3, 1, Act::relu6}},      {24, {56, 144, 3, 2, Act::relu6}},
      {32, {28, 192, 3, 1, Act::relu6}},      {32, {28, 192, 3, 2, Act::relu6}},
      {64, {14, 384, 3, 1, Act::relu6}},      {96, {14, 576, 3, 1, Act::relu6}},
      {160, {7, 960, 3, 1, Act::relu6}}};
  for (const Expanded& e : expansions) expansion(b, e.in, e.window);
  conv(b, 16);
  conv(b, 32);
  maps(b, 112, 16);
  maps(b, 56, 72);
  maps(b, 14, 480);
  maps(b, 7, 960);
  image(b, Resample::legacy_bicubic, "legacy bicubic");
  image(b, Resample::bicubic, "bicubic");
  image(b, Resample::bilinear, "bilinear");
  softmax(b);
  update(b);
}

}  // namespace
}  // namespace tunas

int main(int argc, char** argv) try {
  using namespace tunas;
  require(argc >= 2, "kernel_bench OUT.json [SUBSTRING]");
  Bench bench(argc > 2 ? argv[2] : "");
  bench.measure_copy();
  cudaDeviceProp device;
  ok(cudaGetDeviceProperties(&device, 0));
  int driver = 0, runtime = 0;
  ok(cudaDriverGetVersion(&driver));
  ok(cudaRuntimeGetVersion(&runtime));
  std::printf("%s, copy %.0f GB/s\n", device.name, bench.copy_gbs);
  run(bench);
  std::FILE* out = std::fopen(argv[1], "w");
  require(out, argv[1], ": cannot be written");
  std::fprintf(out,
               "{\"device\": \"%s\", \"cuda_driver\": %d, \"cuda_runtime\": %d, \"batch\": %d,\n"
               " \"type\": \"bf16\", \"copy_gb_s\": %.0f, \"kernels\": [\n",
               device.name, driver, runtime, kBatch, bench.copy_gbs);
  for (std::size_t i = 0; i < bench.lines.size(); ++i) {
    std::fprintf(out, "  %s%s\n", bench.lines[i].c_str(), i + 1 < bench.lines.size() ? "," : "");
  }
  std::fprintf(out, "]}\n");
  std::fclose(out);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
