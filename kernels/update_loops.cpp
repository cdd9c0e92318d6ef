#include "kernels/update_loops.h"

#include <cmath>

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

void rms_prop(const RmsProp& args, std::size_t begin, std::size_t end) {
  const RmsProp a = args;  // a local: the loop's stores cannot change it
  const float fresh = 1 - a.decay;
#pragma GCC ivdep  // the arrays do not overlap
  for (std::size_t i = begin; i < end; ++i) {
    const float g = a.scale * a.grad[i];
    const float ms = a.decay * a.ms[i] + fresh * (g * g);
    const float mom = a.momentum * a.mom[i] + a.rate * g / std::sqrt(ms + a.epsilon);
    a.ms[i] = ms;
    a.mom[i] = mom;
    a.w[i] -= mom;
  }
}

}  // namespace

extern const UpdateLoops update_loops{rms_prop};

}  // namespace tunas::kernels::cpu::TUNAS_ISA
