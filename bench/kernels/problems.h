// What the kernel benches share: problems as strings (tests/support/problems.h), the CPU they run
// on, tensors, and the report: GB/s and GFLOP/s of the declared cost, and the percentage of the
// bandwidth of a copy of as many bytes (read and written together; 1 MB at least, 128 MB at most),
// measured before the problem, so that what fits into a cache is held against a copy that does.
// Over 100 % is possible in place: a copy also loads the lines that it overwrites.
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
#include <map>
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

  /// Bytes read and written per second by a copy that touches `bytes`, or the nearest of 1 MB and
  /// 128 MB: the best within a tenth of a second, measured once per size.
  double copy_bandwidth(double bytes) {
    static std::map<std::size_t, double> known;
    const std::size_t size = static_cast<std::size_t>(std::clamp(bytes, 0x1p20, 0x1p27)) / 2;
    double& best = known[size];
    if (best > 0) return best;
    const std::unique_ptr<char[]> from(new char[size]), to(new char[size]);
    std::memset(from.get(), 1, size);
    const std::size_t piece = std::max(size / 64, std::size_t{1} << 16);
    for (double spent = 0; spent < 0.1;) {
      const auto start = std::chrono::steady_clock::now();
      parallel_pieces(*static_cast<CpuContext*>(stream().handle), size, piece,
                      [&](std::size_t begin, std::size_t end) {
                        std::memcpy(to.get() + begin, from.get() + begin, end - begin);
                      });
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      spent += seconds.count();
      best = std::max(best, 2.0 * static_cast<double>(size) / seconds.count());
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

/// One problem, and where its benchmarks run.
struct Bench {
  const Problem& problem;
  Machine& machine;

  /// Registers "problem suffix": `kernel` called with that member of a Data(problem).
  template <class Data, class Args>
  void add(const std::string& suffix, const Args Data::*args,
           void (*kernel)(Stream, const Args&)) const {
    const auto run = [=, problem = problem, &machine = machine](benchmark::State& state) {
      const Data data(problem);
      measure(state, machine, cost(data.*args), [&] { kernel(machine.stream(), data.*args); });
    };
    benchmark::RegisterBenchmark((problem.text + suffix).c_str(), run)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }

 private:
  template <class Call>
  static void measure(benchmark::State& state, Machine& machine, const Cost& cost,
                      const Call& call) {
    const double copy = machine.copy_bandwidth(cost.bytes());
    call();
    for (auto _ : state) call();
    const auto rate = [&](double amount) {
      return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
    };
    state.counters["GB/s"] = rate(cost.bytes() * 1e-9);
    state.counters["GFLOP/s"] = rate(cost.flops * 1e-9);
    state.counters["%copy"] = rate(cost.bytes() / copy * 100);
  }
};

/// main of a bench: `add(bench)` registers the benchmarks of one problem.
inline int main(int argc, char** argv, std::vector<std::string> problems,
                void (*add)(const Bench&)) {
  benchmark::Initialize(&argc, argv);
  Machine machine;
  benchmark::AddCustomContext("isa", kernels::cpu::name(kernels::cpu::isa()));
  benchmark::AddCustomContext("threads", std::to_string(machine.threads()));
  if (argc > 1) problems.assign(argv + 1, argv + argc);
  for (const std::string& text : problems) add({Problem::parse(text), machine});
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace tunas::bench
