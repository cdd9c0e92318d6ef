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
    a.ms[i] = a.decay * a.ms[i] + fresh * (g * g);
    a.mom[i] = a.momentum * a.mom[i] + a.rate * g / std::sqrt(a.ms[i] + a.epsilon);
    a.w[i] -= a.mom[i];
  }
}

}  // namespace

extern const UpdateLoops update_loops{rms_prop};

}  // namespace tunas::kernels::cpu::TUNAS_ISA
