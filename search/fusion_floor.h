// Elements that each layer of a training pass moves, if every tensor is read and written once (the
// full-fusion floor: at least this, whatever the kernels) and if every operation is a pass of its
// own (composed: what an eager framework does). What a step is reported against.
//
//   convolution, I elements in, O out   floor     forward I + O; backward 2 I + 2 O
//     with norm and activation          composed  forward I + 6 O; backward 2 I + 10 O
//     with norm alone                             forward I + 4 O; backward 2 I + 7 O
//     with neither                                forward I + O; backward 2 I + 2 O
//   residual sum of R elements          floor     forward 2 R (read x, write the sum); backward R
//                                       composed  forward 3 R; backward 3 R
//   average of k operations on R        composed  forward (k + 1) R; backward 2 k R
//   squeeze-excite on S elements        floor     forward S (the mean over the image, before the
//                                                 gate is known)
//                                       composed  forward 3 S; backward 8 S
//   global pool of S elements           composed  forward S; backward S
//
// In bf16 at 224 pixels the floor is 57 MB an image for MobileNetV3-Large and 82 MB for
// MobileNetV2, forward and backward. Weights are not counted: a batch shares them.
#pragma once

#include <string>
#include <vector>

#include "search/arch.h"

namespace tunas::search {

struct Moved {
  double forward = 0, backward = 0;  // of an image: elements, or bytes where it says so

  double sum() const { return forward + backward; }
  Moved& operator+=(const Moved& o) {
    forward += o.forward;
    backward += o.backward;
    return *this;
  }
};

struct LayerMoves {
  std::string layer;  // as the supernet names it: blocks/1/layers/0; classifier
  Moved composed, floor;
};

/// Of the layers that run. Options that run beside each other (kAll) count one by one.
std::vector<LayerMoves> layer_moves(const Plan& plan);

/// The sum of their floors.
Moved fusion_floor(const Plan& plan);

}  // namespace tunas::search
