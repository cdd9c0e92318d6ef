// Backward through an activation, what mix and pool share on the CPU:
//
//   dz[n,h,w,c] (+)= (weight*da[n,h,w,c] + share*constant[n,c]) * act'(z[n,h,w,c])
//
// with the sums of source.h. Reads da, y (unless neither act nor sums need it) and writes dz once.
#pragma once

#include "kernels/source.h"
#include "kernels/stream.h"

namespace tunas::kernels::cpu {

struct ActGrad {
  const char* kernel = "";  // whose arguments these are, for errors
  Tensor da;                // data null: 0; may be dx.dz itself
  float weight = 1;
  Tensor constant;  // [n][1][1][c]; data null: 0
  float share = 1;
  Source x;  // ungated
  SourceGrad dx;
};

/// Throws Error(usage) for shapes that do not fit, Error(memory) for too small a workspace.
void act_grad(CpuContext& context, const ActGrad& args);

}  // namespace tunas::kernels::cpu
