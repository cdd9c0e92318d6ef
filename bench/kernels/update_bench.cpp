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
  Average mean;
  Verdict verdict;
  FiniteCheck check;

  explicit Update(const Problem& p) : grad(p.size), w(p.size), ms(p.size), mom(p.size) {
    const auto floats = static_cast<std::size_t>(p.size);
    rms = {floats, grad.get(), w.get(), ms.get(), mom.get()};
    plain = {floats, grad.get(), w.get(), mom.get()};
    sum = {floats, w.get(), grad.get()};
    mean = {floats, w.get(), grad.get()};
    check = {floats, grad.get(), &verdict};
    rms.momentum = plain.momentum = 1;
  }
};

void add(const Bench& bench) {
  const std::string& op = bench.problem.op;
  if (op == "rms_prop") {
    bench.add("", &Update::rms, rms_prop);
  } else if (op == "sgd") {
    bench.add("", &Update::plain, sgd);
  } else if (op == "add") {
    bench.add("", &Update::sum, kernels::add);
  } else if (op == "finite_check") {
    bench.add("", &Update::check, finite_check);
  } else {
    require(op == "average", "update_bench: '", op,
            "' is not rms_prop, sgd, add, average or finite_check");
    bench.add("", &Update::mean, average);
  }
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
                                "average size=5484313",
                                "finite_check size=5484313",
                            },
                            tunas::bench::add);
}
