// Depthwise convolution and its batch norm, activation left to the reader.
// Kept for backward: x and y, both raw. Formula and floor: kernels/depthwise.h.
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

struct Depthwise {
  Weight w;  // [k][k][c]
  int stride = 1;
  Padding padding = Padding::same;
  NormWeight norm;
  Act act = Act::none;
  float decay = 0;
};

Raw depthwise(Tape& tape, const Raw& x, const Depthwise& op);

}  // namespace tunas::engine
