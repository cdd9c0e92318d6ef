// What the problems of kernel_bench share: memory that rotates, the clock, lines of the report.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/source.h"

namespace tunas {

inline constexpr int kBatch = 128;
inline constexpr std::size_t kPool = std::size_t{6} << 30, kCache = std::size_t{160} << 20;

inline void ok(cudaError_t status) {
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

  explicit Bench(const char* only) : filter(only) {
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
    std::printf("%-64s %9.2f us %9.1f MB %6.0f GB/s %5.1f %%\n", name.c_str(), us, bytes / 1e6, gbs,
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

}  // namespace tunas
