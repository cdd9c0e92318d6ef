// What the kernel benches share: problems as strings (tests/support/problems.h), the CPU they run
// on, tensors, and the report: GB/s and GFLOP/s of the declared cost, and the percentage of the
// bandwidth at which this machine copies memory, measured in the same run.
//
//   X_bench                                  its own list of problems
//   X_bench "pointwise n=16 hw=28 c=240/512 o=40 act=relu norm" ...    these instead
//
// TUNAS_THREADS sets the number of threads (default: all processors).
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/source.h"
#include "tests/support/problems.h"

namespace tunas::bench {

using test::Problem;

struct AlignedDelete {
  void operator()(float* p) const { std::free(p); }
};

/// Floats that are neither denormal nor constant; 64-byte aligned.
class Floats {
 public:
  explicit Floats(long size)
      : data_(static_cast<float*>(
            std::aligned_alloc(64, (static_cast<std::size_t>(size) * 4 + 127) / 64 * 64))) {
    for (long i = 0; i < size; ++i) {
      data_.get()[i] = static_cast<float>(i * 2654435761L % 1999 - 999) * 1e-3f;
    }
  }
  float* get() const { return data_.get(); }

 private:
  std::unique_ptr<float, AlignedDelete> data_;
};

/// The CPU stream of the bench.
class Machine {
 public:
  explicit Machine(Kernels kernels = Kernels::automatic)
      : device_(engine::Device::cpu(wanted_threads(), kernels)) {}
  Stream stream() { return device_.stream(); }
  int threads() const { return device_.threads(); }

  /// Bytes read and written per second by the best of ten copies of 128 MB.
  double copy_bandwidth() const {
    constexpr std::size_t kBytes = std::size_t{128} << 20;
    const std::unique_ptr<char[]> from(new char[kBytes]), to(new char[kBytes]);
    std::memset(from.get(), 1, kBytes);
    double best = 0;
    for (int i = 0; i < 10; ++i) {
      const auto start = std::chrono::steady_clock::now();
      parallel_pieces(*static_cast<CpuContext*>(device_.stream().handle), kBytes, kBytes / 64,
                      [&](std::size_t begin, std::size_t end) {
                        std::memcpy(to.get() + begin, from.get() + begin, end - begin);
                      });
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      best = std::max(best, 2.0 * kBytes / seconds.count());
    }
    return best;
  }

 private:
  static int wanted_threads() {
    const char* threads = std::getenv("TUNAS_THREADS");
    return threads ? std::atoi(threads) : 0;
  }

  engine::Device device_;
};

/// Runs `call` and reports what `cost` a call makes of its time.
template <class Call>
void measure(benchmark::State& state, const Cost& cost, double copy, const Call& call) {
  call();
  for (auto _ : state) call();
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GB/s"] = rate(cost.bytes() * 1e-9);
  state.counters["GFLOP/s"] = rate(cost.flops * 1e-9);
  state.counters["%copy"] = rate(cost.bytes() / copy * 100);
}

/// main of a bench: `run(problem, machine, copy)` registers the benchmarks of one problem.
template <class Register>
int main(int argc, char** argv, std::vector<std::string> problems, const Register& run) {
  benchmark::Initialize(&argc, argv);
  Machine machine;
  const double copy = machine.copy_bandwidth();
  benchmark::AddCustomContext("isa", kernels::cpu::name(kernels::cpu::isa()));
  benchmark::AddCustomContext("threads", std::to_string(machine.threads()));
  benchmark::AddCustomContext("copy_gb_per_s", std::to_string(copy * 1e-9));
  if (argc > 1) problems.assign(argv + 1, argv + argc);
  for (const std::string& text : problems) run(Problem::parse(text), machine, copy);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace tunas::bench
