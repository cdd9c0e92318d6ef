#include "kernels/update_loops.h"

#include <cmath>
#include <limits>

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

std::uint32_t rms_prop(const RmsProp& args, std::size_t begin, std::size_t end) {
  const RmsProp a = args;  // a local: the loop's stores cannot change it
  const float fresh = 1 - a.decay;
  std::uint32_t bad = 0;
#pragma GCC ivdep  // the arrays do not overlap
  for (std::size_t i = begin; i < end; ++i) {
    const float g = a.scale * a.grad[i];
    const float ms = a.decay * a.ms[i] + fresh * (g * g);
    const float mom = a.momentum * a.mom[i] + a.rate * g / std::sqrt(ms + a.epsilon);
    const bool finite = std::abs(g) <= std::numeric_limits<float>::max();
    a.ms[i] = finite ? ms : a.ms[i];
    a.mom[i] = finite ? mom : a.mom[i];
    a.w[i] -= finite ? mom : 0.0f;
    bad += !finite;
  }
  return bad;
}

}  // namespace

extern const UpdateLoops update_loops{rms_prop};

}  // namespace tunas::kernels::cpu::TUNAS_ISA
