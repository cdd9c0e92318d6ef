// Optimizer updates over the flat store: the parameters of MobileNetV3-Large and of a supernet.
#include "kernels/update.h"

#include "bench/kernels/problems.h"
#include "kernels/error.h"

namespace tunas::bench {
namespace {

using namespace kernels;

/// Memory for any of the updates. The momentum is 1: a smaller one would make it denormal after a
/// few hundred calls.
struct Update {
  Floats grad, w, ms, mom;
  RmsProp rms;
  Sgd plain;
  Add sum;

  explicit Update(long size) : grad(size), w(size), ms(size), mom(size) {
    const auto floats = static_cast<std::size_t>(size);
    rms = {floats, grad.get(), w.get(), ms.get(), mom.get()};
    plain = {floats, grad.get(), w.get(), mom.get()};
    sum = {floats, w.get(), grad.get()};
    rms.momentum = plain.momentum = 1;
  }
};

void add(const Problem& problem, Machine& machine, double copy) {
  const auto run = [=, &machine](benchmark::State& state) {
    const Update data(problem.size);
    if (problem.op == "rms_prop") {
      measure(state, cost(data.rms), copy, [&] { rms_prop(machine.stream(), data.rms); });
    } else if (problem.op == "sgd") {
      measure(state, cost(data.plain), copy, [&] { sgd(machine.stream(), data.plain); });
    } else {
      require(problem.op == "add", "update_bench: '", problem.op, "' is not rms_prop, sgd or add");
      measure(state, cost(data.sum), copy, [&] { kernels::add(machine.stream(), data.sum); });
    }
  };
  benchmark::RegisterBenchmark(problem.text.c_str(), run)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "rms_prop size=5484313",
                                "rms_prop size=60000000",
                                "sgd size=5484313",
                                "sgd size=60000000",
                                "add size=5484313",
                                "add size=60000000",
                            },
                            tunas::bench::add);
}
