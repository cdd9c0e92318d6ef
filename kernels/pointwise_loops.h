// What surrounds the matrix product of a tile: the loads and stores of source.h, on `rows` rows of
// c channels of a packed tensor, all channel arrays at the tile's first channel.
#pragma once

#include "kernels/isa.h"
#include "kernels/types.h"

namespace tunas::kernels::cpu {

/// u = act(scale*y + shift) * gate - pivot
struct LoadSource {
  int rows = 0, c = 0;
  const float* y = nullptr;
  long ldy = 0;
  const float* scale = nullptr;  // null: 1 and 0
  const float* shift = nullptr;
  Act act = Act::none;
  const float* gate = nullptr;   // [c] of the tile's image; null: 1
  float* u = nullptr;            // [rows][c]
  const float* pivot = nullptr;  // null: 0
};

/// dy = ca*dz + cb*y + cc; deferred, dz = (weight*da + spread) * act'(scale*y + shift).
struct LoadIncoming {
  int rows = 0, c = 0;        // packed on both sides
  const float* dz = nullptr;  // deferred: da; null: 0
  const float* y = nullptr;
  const float* ca = nullptr;
  const float* cb = nullptr;
  const float* cc = nullptr;
  float* dy = nullptr;
  const float* scale = nullptr;  // null: nothing is deferred
  const float* shift = nullptr;
  Act act = Act::none;
  float weight = 1;
  const float* spread = nullptr;  // [c] of the tile's image; null: 0
};

/// Turns the column sums of a tile (gemm_loops.h) into its moments, in place: the pivot becomes the
/// mean, the sum becomes M2 = sum (y - mean)^2.
struct FinishMoments {
  int rows = 0, c = 0;
  float* pivot = nullptr;
  float* sum = nullptr;
  const float* square = nullptr;
};

/// dz (+)= (du + weight*addend) * act'(z), with sum_dz += dz and sum_dz_y += dz*(y - mean).
struct StoreGrad {
  int rows = 0, c = 0;
  const float* du = nullptr;  // [rows][c]
  const float* y = nullptr;   // read where there is a gate, an activation or a sum
  float* dz = nullptr;
  long ld = 0;                    // of y, dz and addend
  const float* addend = nullptr;  // null: 0; may be dz
  float weight = 1;
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::none;
  Write how = Write::overwrite;
  const float* mean = nullptr;  // null: no sums
  float* sum_dz = nullptr;
  float* sum_dz_y = nullptr;
  /// With a gate, instead: dz (+)= du*gate and dgate += du*act(z); the sums are those of
  /// du*gate*act'(z), which is not stored.
  const float* gate = nullptr;
  float* dgate = nullptr;
};

/// sum[c] += sum over rows of x.
struct SumRows {
  int rows = 0, c = 0;
  const float* x = nullptr;
  long ld = 0;
  float* sum = nullptr;
};

struct PointwiseLoops {
  void (*load_source)(const LoadSource& args);
  void (*load_incoming)(const LoadIncoming& args);
  void (*finish_moments)(const FinishMoments& args);
  void (*store_grad)(const StoreGrad& args);
  void (*sum_rows)(const SumRows& args);
};

TUNAS_PER_ISA(PointwiseLoops, pointwise_loops);

}  // namespace tunas::kernels::cpu
