// The inner loop of RMSProp, compiled once per instruction set: its root and division take four
// lanes at a time longer than memory does. The other updates reach copy bandwidth without.
#pragma once

#include "kernels/isa.h"
#include "kernels/update.h"

namespace tunas::kernels::cpu {

struct UpdateLoops {
  void (*rms_prop)(const RmsProp& args, std::size_t begin, std::size_t end);
};

TUNAS_PER_ISA(UpdateLoops, update_loops);

}  // namespace tunas::kernels::cpu
