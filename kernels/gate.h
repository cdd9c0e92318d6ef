// Gate of squeeze-and-excite, on [n][c]: what the scaled tensor is multiplied by.
//
//   gate = off + on*kind(x)          kind: sigmoid or hard_sigmoid; (off, on) = (0, 1), in the
//   dx = on*kind'(x)*dgate           all-operations state (0.5, 0.5): 0.5*a + 0.5*SE(a)
#pragma once

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct GateForward {
  Tensor x;  // [n][1][1][c]
  Act kind = Act::sigmoid;
  float off = 0, on = 1;
  Tensor gate;
};

struct GateBackward {
  Tensor x;
  Act kind = Act::sigmoid;
  float on = 1;
  Tensor dgate;
  Tensor dx;  // overwritten
};

Cost cost(const GateForward& args);
Cost cost(const GateBackward& args);
namespace cpu {
void gate(CpuContext& context, const GateForward& args);
void gate_backward(CpuContext& context, const GateBackward& args);
}  // namespace cpu
namespace cuda {
// Eight floats a lane go in two words, each touching a half of every sector.
inline constexpr Slack kGateSlack{1.15, 0, 1.7, 1.15};
void gate(CudaContext& context, const GateForward& args);
void gate_backward(CudaContext& context, const GateBackward& args);
}  // namespace cuda

inline void gate(Stream stream, const GateForward& args) {
  on<cpu::gate, cuda::gate>(stream, args);
}
inline void gate_backward(Stream stream, const GateBackward& args) {
  on<cpu::gate_backward, cuda::gate_backward>(stream, args);
}

}  // namespace tunas::kernels
