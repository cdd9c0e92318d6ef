// Rows of the elementwise kernels, mix and pool, compiled once per instruction set. Rows are pixels
// of c channels, packed; channel arrays are [c]; z = scale*y + shift, or y where scale is null.
#pragma once

#include "kernels/isa.h"
#include "kernels/types.h"

namespace tunas::kernels::cpu {

/// out (+)= weight*act(z)
struct MixRows {
  long rows = 0;
  int c = 0;
  const float* y = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  float weight = 1;
  Write how = Write::overwrite;
  float* out = nullptr;
};

/// sum += act(z), and slope_sum += act'(z), slope_sum_centred += act'(z)*(y - mean).
struct SumActRows {
  long rows = 0;
  int c = 0;
  long stride = 0;  // floats from row to row
  const float* y = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  float* sum = nullptr;
  const float* mean = nullptr;  // null: no sums of slopes
  float* slope_sum = nullptr;
  float* slope_sum_centred = nullptr;
};

/// dz (+)= (weight*da + share*constant)*act'(z); sum_dz += dz, sum_dz_centred += dz*(y - mean), of
/// what is written here, not of what was there.
struct ActGradRows {
  long rows = 0;
  int c = 0;
  float weight = 1;
  const float* da = nullptr;  // [rows][c]; null: 0
  float share = 1;
  const float* constant = nullptr;  // null: 0
  const float* y = nullptr;         // not read without activation and sums
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  const float* mean = nullptr;  // null: no sums
  Write how = Write::overwrite;
  float* dz = nullptr;  // null: only the sums
  float* sum_dz = nullptr;
  float* sum_dz_centred = nullptr;
};

struct MixLoops {
  void (*mix)(const MixRows&);
  void (*sum_act)(const SumActRows&);
  void (*act_grad)(const ActGradRows&);
};

TUNAS_PER_ISA(MixLoops, mix_loops);

}  // namespace tunas::kernels::cpu
