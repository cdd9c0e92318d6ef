// Crops of a batch become the network's input. Formula: kernels/image.h.
#pragma once

#include "engine/inputs.h"
#include "engine/preprocess.h"
#include "engine/tape.h"

namespace tunas::engine {

struct ImageInput {
  int resolution = 224;
  int border = 0;  // zero pixels on each side, for the stem's padding
  Preprocess preprocess = {};
};

Var image(Tape& tape, const Inputs& inputs, const ImageInput& op);

}  // namespace tunas::engine
