// The stem's dense convolution on an image with its border written in, and its batch norm.
// Kept for backward: the image and the raw output. Formula and floor: kernels/conv.h.
#pragma once

#include "engine/ops/raw.h"

namespace tunas::engine {

struct Conv {
  Weight w;
  int out = 0;  // active output width
  int stride = 1;
  Axis axis;       // padding and output size, of both axes
  int border = 0;  // zero pixels around the stored image
  NormWeight norm;
  float decay = 0;
};

Raw conv(Tape& tape, Var image, const Conv& op);

}  // namespace tunas::engine
