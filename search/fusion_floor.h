// The full-fusion floor: the activations that a pass must move at least, whatever its kernels, if
// each layer reads and writes every tensor once. What a step is reported against.
//
//   convolution, I elements in, O out   forward I + O; backward 2 I + 2 O   (norm, activation: 0)
//   residual sum of R elements          forward 2 R (read x, write the sum); backward R
//   squeeze-excite on S elements        forward S (the mean over the image, before the gate is
//   known)
//
// In bf16 at 224 pixels, forward and backward, 57 MB an image for MobileNetV3-Large and 82 MB for
// MobileNetV2. Weights are not counted: a batch shares them.
#pragma once

#include "search/arch.h"

namespace tunas::search {

struct FusionFloor {
  double forward = 0, backward = 0;  // elements an image
};

/// Options that run beside each other (kAll) count one by one.
FusionFloor fusion_floor(const Plan& plan);

}  // namespace tunas::search
