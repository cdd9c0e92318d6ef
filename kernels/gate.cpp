// Gate of squeeze-and-excite on the CPU: one value per image and channel, formulas in gate.h.
#include "kernels/gate.h"

#include "kernels/activation.h"
#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const GateForward& args) {
  return {6.0 * static_cast<double>(args.x.size()), bytes_of(args.x), bytes_of(args.gate)};
}

Cost cost(const GateBackward& args) {
  return {6.0 * static_cast<double>(args.x.size()), bytes_of(args.x) + bytes_of(args.dgate),
          bytes_of(args.dx)};
}

namespace cpu {
namespace {

void check_kind(const char* kernel, Act kind) {
  require(kind == Act::sigmoid || kind == Act::hard_sigmoid, kernel,
          ": kind must be sigmoid or hard_sigmoid, not Act ", static_cast<int>(kind));
}

}  // namespace

void gate(CpuContext& context, const GateForward& args) {
  check_kind("gate", args.kind);
  check_shape("gate", "x", args.x, args.x.n, 1, 1, args.x.c);
  check_same_shape("gate", "gate", args.gate, args.x);
  const float* x = args.x.f32();
  float* out = args.gate.f32();
  parallel(context, args.x.n, [&](long n, int) {
    for (long i = n * args.x.c; i < (n + 1) * args.x.c; ++i) {
      out[i] = args.off + args.on * activate(args.kind, x[i]);
    }
  });
}

void gate_backward(CpuContext& context, const GateBackward& args) {
  check_kind("gate_backward", args.kind);
  check_shape("gate_backward", "x", args.x, args.x.n, 1, 1, args.x.c);
  check_same_shape("gate_backward", "dgate", args.dgate, args.x);
  check_same_shape("gate_backward", "dx", args.dx, args.x);
  const float* x = args.x.f32();
  const float* dgate = args.dgate.f32();
  float* dx = args.dx.f32();
  parallel(context, args.x.n, [&](long n, int) {
    for (long i = n * args.x.c; i < (n + 1) * args.x.c; ++i) {
      dx[i] = args.on * activate_grad(args.kind, x[i]) * dgate[i];
    }
  });
}

}  // namespace cpu
}  // namespace tunas::kernels
