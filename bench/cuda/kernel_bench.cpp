// Every kernel at the shapes of MobileNetV3-Large and of the search spaces, batch 128, bf16:
// median time, bytes of the declared floor, GB/s, percent of the copy bandwidth measured first.
//
//   kernel_bench OUT.json [SUBSTRING]        only problems whose name contains SUBSTRING
//
// Inputs rotate through more memory than the second-level cache holds. A time is that of a run of
// launches, so it contains the small second kernels and the gaps between launches.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "kernels/cuda_context.h"
#include "kernels/depthwise.h"
#include "kernels/error.h"
#include "kernels/image.h"
#include "kernels/mix.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/softmax_xent.h"
#include "kernels/update.h"

namespace tunas {
namespace {

constexpr int kBatch = 128;
constexpr std::size_t kPool = std::size_t{6} << 30, kCache = std::size_t{160} << 20;

void ok(cudaError_t status) {
  if (status != cudaSuccess) fail(Exit::numeric, "kernel_bench: ", cudaGetErrorString(status));
}

/// A stretch of random bf16 in [-1, 1], handed out again from the start for each problem.
class Pool {
 public:
  Pool() {
    ok(cudaMalloc(&data_, kPool));
    std::vector<std::uint16_t> some(std::size_t{16} << 20);
    std::uint32_t state = 12345;
    for (std::uint16_t& v : some) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<std::uint16_t>((state >> 16 & 0x8000) | (0x3d00 + (state >> 8) % 0x280));
    }
    for (std::size_t at = 0; at < kPool; at += some.size() * 2) {
      ok(cudaMemcpy(data_ + at, some.data(), some.size() * 2, cudaMemcpyHostToDevice));
    }
  }
  void rewind() { used_ = 0; }
  char* take(std::size_t bytes) {
    if (used_ + bytes > kPool) fail(Exit::memory, "kernel_bench: a problem needs over 6 GiB");
    char* at = data_ + used_;
    used_ += (bytes + 255) / 256 * 256;
    return at;
  }
  Tensor tensor(int n, int h, int w, int c) {
    Tensor t{nullptr, DType::bf16, n, h, w, c};
    t.data = take(t.bytes());
    return t;
  }
  Tensor tensor(int hw, int c) { return tensor(kBatch, hw, hw, c); }
  float* floats(std::size_t n) { return reinterpret_cast<float*>(take(n * 4)); }
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  std::size_t used_ = 0;
};

struct Bench {
  CudaContext context;
  Pool pool;
  double copy_gbs = 0;
  std::string filter;
  std::vector<std::string> lines;

  explicit Bench(std::string only) : filter(std::move(only)) {
    ok(cudaStreamCreate(&context.stream));
    context.workspace_bytes = CudaContext::kWorkspaceBytes;
    void* workspace = nullptr;
    ok(cudaMalloc(&workspace, context.workspace_bytes));
    context.workspace = static_cast<char*>(workspace);
  }

  /// Median microseconds of one call.
  double time(const std::vector<std::function<void()>>& sets) {
    cudaEvent_t begin, end;
    ok(cudaEventCreate(&begin));
    ok(cudaEventCreate(&end));
    for (const auto& set : sets) set();
    const int calls = std::max<int>(8, static_cast<int>(sets.size()));
    std::vector<double> times;
    for (int run = 0; run < 9; ++run) {
      ok(cudaEventRecord(begin, context.stream));
      for (int i = 0; i < calls; ++i) sets[i % sets.size()]();
      ok(cudaEventRecord(end, context.stream));
      ok(cudaEventSynchronize(end));
      float ms = 0;
      ok(cudaEventElapsedTime(&ms, begin, end));
      times.push_back(1e3 * ms / calls);
    }
    ok(cudaEventDestroy(begin));
    ok(cudaEventDestroy(end));
    std::nth_element(times.begin(), times.begin() + 4, times.end());
    return times[4];
  }

  void measure_copy() {
    const std::size_t bytes = std::size_t{1} << 30;
    std::vector<std::function<void()>> sets;
    for (int i = 0; i < 2; ++i) {
      sets.push_back([=, this] {
        ok(cudaMemcpyAsync(pool.data() + (2 * i + 1) * bytes, pool.data() + 2 * i * bytes, bytes,
                           cudaMemcpyDeviceToDevice, context.stream));
      });
    }
    copy_gbs = 2.0 * static_cast<double>(bytes) / time(sets) / 1e3;
  }

  /// `make` takes its tensors from the pool and returns the call; `bytes` is the floor.
  void problem(const std::string& name, double bytes,
               const std::function<std::function<void()>()>& make) {
    if (name.find(filter) == std::string::npos) return;
    pool.rewind();
    const int count = std::clamp(static_cast<int>(static_cast<double>(kCache) / bytes) + 1, 2, 64);
    std::vector<std::function<void()>> sets;
    for (int i = 0; i < count; ++i) sets.push_back(make());
    const double us = time(sets), gbs = bytes / us / 1e3, percent = 100 * gbs / copy_gbs;
    char line[400];
    std::snprintf(line, sizeof line,
                  R"({"kernel": "%s", "us": %.2f, "mbytes": %.3f, "gb_s": %.0f, "percent": %.1f})",
                  name.c_str(), us, bytes / 1e6, gbs, percent);
    std::printf("%-44s %9.2f us %9.1f MB %6.0f GB/s %5.1f %%\n", name.c_str(), us, bytes / 1e6, gbs,
                percent);
    std::fflush(stdout);
    lines.emplace_back(line);
  }

  kernels::Source source(int hw, int c, Act act) {
    return {pool.tensor(hw, c), pool.floats(c), pool.floats(c), act, nullptr};
  }
  kernels::SourceGrad grad(const Tensor& like) {
    const int c = like.c;
    return {pool.tensor(like.n, like.h, like.w, c),
            Write::overwrite,
            pool.floats(c),
            pool.floats(c),
            pool.floats(c),
            pool.floats(c),
            nullptr};
  }
  kernels::Incoming incoming(int hw, int c) {
    return {pool.tensor(hw, c), pool.tensor(hw, c), pool.floats(c), pool.floats(c), pool.floats(c)};
  }
};

void depthwise(Bench& b, int hw, int c, int k, int s, Act act) {
  const Axis axis = pad_axis(Padding::same, hw, k, s);
  const std::string name = "depthwise hw=" + std::to_string(hw) + " c=" + std::to_string(c) +
                           " k=" + std::to_string(k) + " s=" + std::to_string(s);
  const double in = 2.0 * kBatch * hw * hw * c, out = 2.0 * kBatch * axis.out * axis.out * c;
  b.problem(name + " forward", in + out, [&] {
    const Filter w{b.pool.take(2u * k * k * c), DType::bf16, {}, {c, c}, k};
    kernels::DepthwiseForward args{b.source(hw, c, act),
                                   w,
                                   s,
                                   axis.before,
                                   axis.before,
                                   {b.pool.floats(c), b.pool.floats(c)},
                                   b.pool.tensor(axis.out, c)};
    return [=, &b] { kernels::cuda::depthwise(b.context, args); };
  });
  b.problem(name + " backward", 2 * in + 2 * out, [&] {
    const Filter w{b.pool.take(2u * k * k * c), DType::bf16, {}, {c, c}, k};
    const Filter dw{b.pool.take(4u * k * k * c), DType::f32, {}, {c, c}, k};
    const kernels::Source x = b.source(hw, c, act);
    kernels::DepthwiseBackward args{
        b.incoming(axis.out, c), x, w, s, axis.before, axis.before, 1e-5f, b.grad(x.y), dw};
    return [=, &b] { kernels::cuda::depthwise_backward(b.context, args); };
  });
}

void pointwise(Bench& b, int hw, int in, int out, Act act) {
  const std::string name = "pointwise hw=" + std::to_string(hw) + " in=" + std::to_string(in) +
                           " out=" + std::to_string(out);
  const double x = 2.0 * kBatch * hw * hw * in, y = 2.0 * kBatch * hw * hw * out;
  const Filter shape{nullptr, DType::bf16, {out, out}, {in, in}, 1};
  b.problem(name + " forward", x + y, [&] {
    Filter w = shape;
    w.data = b.pool.take(2u * in * out);
    kernels::PointwiseForward args{b.source(hw, in, act),
                                   w,
                                   nullptr,
                                   {b.pool.floats(out), b.pool.floats(out)},
                                   b.pool.tensor(hw, out)};
    return [=, &b] { kernels::cuda::pointwise(b.context, args); };
  });
  b.problem(name + " backward", 2 * (x + y), [&] {
    Filter w = shape, dw = shape;
    w.data = b.pool.take(2u * in * out);
    dw.data = b.pool.take(4u * in * out);
    dw.type = DType::f32;
    const kernels::Source u = b.source(hw, in, act);
    kernels::PointwiseBackward args{b.incoming(hw, out), u, w, 1e-5f, b.grad(u.y), dw, nullptr};
    return [=, &b] { kernels::cuda::pointwise_backward(b.context, args); };
  });
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
  b.problem("pool" + name + " forward", one, [&] {
    kernels::PoolForward args{b.source(hw, c, Act::hard_swish), b.pool.tensor(1, c)};
    return [=, &b] { kernels::cuda::pool(b.context, args); };
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
  struct Window {
    int hw, c, k, s;
    Act act;
  };
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
  for (const Window& w : windows) depthwise(b, w.hw, w.c, w.k, w.s, w.act);
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
