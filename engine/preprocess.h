// How a network wants its images: what an evaluation shows of them, how they are resized and
// normalised. Two conventions:
//   tf           the central square of 0.875 of the shorter side is resized (specification section
//                17: legacy bicubic)
//   torchvision  the shorter side is resized to `resize`, of the result the central square is taken
//                (Resize, CenterCrop with Pillow's antialiased filters)
#pragma once

#include "kernels/image.h"

namespace tunas {

/// In files and options; the index is the value of the enum.
inline constexpr const char* kResampleNames[] = {"legacy_bicubic", "bicubic", "bilinear"};

struct Preprocess {
  int resize = 0;  // pixels of the shorter side; 0: as tf does it
  Resample resample = Resample::legacy_bicubic;
  Normalization normalization;
};

}  // namespace tunas
