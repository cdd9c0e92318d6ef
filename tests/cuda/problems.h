// Problems of the convolutions, each checked against loops in double by the run() beside its tests.
// A context with Kernels::library runs the twins, which round once more on the way (y before the
// bias, du before act') and take moments of the rounded output; cuDNN may leave dw in bf16.
#pragma once

#include "tests/cuda/reference.h"

namespace tunas::testing {

/// What reaches the backward pass: dz and y; a gradient that its reader deferred, with or without
/// dz; dz alone, of an output that is not stored.
enum class Handed { gradient, deferred, spread, expansion };

struct PointwiseProblem {
  int n, hw, in, in_max, out, out_max;
  Act act = Act::relu6;
  bool normalised = true, gated = false, bias = false, incoming = true;
  Write how = Write::overwrite;
  DType type = DType::bf16, y_type = DType::bf16;
  Handed handed = Handed::gradient;
  bool slopes = false;  // of a gated source
  Addend addend = Addend::none;
};
void run(CudaContext& context, const PointwiseProblem& p);

struct ConvProblem {
  int n, hw, border, c, c_max, k, stride;
  Padding padding;
  DType type;
};
void run(CudaContext& context, const ConvProblem& p);

struct DepthwiseProblem {
  int n, h, w, c, c_max, k, stride;
  Padding padding = Padding::same;
  Act act = Act::relu6;
  DType type = DType::bf16;
  Write how = Write::overwrite;
  int expanded = 0;  // channels of the source of an expansion; 0: x is stored
  Act expanded_act = Act::none;
  bool normalised = true;  // what is incoming
  Left left = {};
  Addend addend = Addend::none;

  Axis rows() const { return pad_axis(padding, h, k, stride); }
  Axis columns() const { return pad_axis(padding, w, k, stride); }
};
void run(CudaContext& context, const DepthwiseProblem& p);

/// Limit for results of this type where the own kernel's is `own`.
inline double limit_of(const CudaContext& context, DType type, double own) {
  if (context.kernels != Kernels::library || type == DType::f32) return own;
  return 5e-3;
}

}  // namespace tunas::testing
