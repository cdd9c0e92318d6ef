// Which part of an image is seen (specification section 17): random resized crop and flip in
// training, the central square in evaluation. Resizing is the image kernel's work.
//
// Random crop, as TensorFlow's sample_distorted_bounding_box draws it with the whole image as its
// box, up to 10 times (W x H the image, all in float, round() to nearest even):
//   aspect  uniform in [3/4, 4/3]
//   height  uniform over the integers from round(sqrt(min_area*W*H/aspect)) to the largest height
//           whose area is allowed and which fits (the area is therefore *not* uniform)
//   width   round(height*aspect); one row more or less where rounding left the area range
//   y, x    uniform over [0, H-height) and [0, W-width), 0 where that is empty: the last offset
//           never occurs
// An attempt fails if it leaves the range, does not fit, or covers under 10 % of the image. No
// crop, or one that is the whole image, means the evaluation crop.
//
// As torchvision's RandomResizedCrop draws it, also up to 10 times: area uniform in [0.08, 1] of
// the image, log(aspect) uniform, width round(sqrt(area*aspect)), height round(sqrt(area/aspect)),
// y and x uniform over all offsets. No crop means the largest central one of an allowed aspect.
//
// All draws are philox(seed, augment, epoch, attempt)[sample]: four words per attempt (aspect,
// height, y, x), and one for the flip in place of an eleventh attempt.
#pragma once

#include <cstdint>
#include <optional>

#include "data/region.h"
#include "engine/preprocess.h"
#include "kernels/philox.h"

namespace tunas::data {

enum class CropLaw : unsigned char { tensorflow, torchvision };

struct CropRule {
  CropLaw law = CropLaw::tensorflow;
  float min_area = 0.08f, max_area = 1.0f;  // fractions of the image
  float min_aspect = 3.0f / 4, max_aspect = 4.0f / 3;
  float min_covered = 0.1f;  // tensorflow
  int attempts = 10;
};

/// A part of an image and how it becomes the result (kernels/image.h): by default it is resized.
struct View {
  Region region;
  bool flip = false;
  CropAxis y = {}, x = {};
};

struct AugmentKey {
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  std::int64_t sample = 0;
};

/// Central square of side int(0.875*min(h, w)), at least 1, at offset (dim - side + 1) div 2.
Region central_crop(Size image);

/// What an evaluation at `resolution` shows: the central crop, or what torchvision's Resize and
/// CenterCrop show of the image whose shorter side becomes preprocess.resize and whose longer one
/// int(resize*longer/shorter): the square at round((dim - resolution)/2), halves to even. Error
/// where resize is below the resolution.
View evaluation_view(Size image, const Preprocess& preprocess, int resolution);

/// One attempt, a pure function of its four draws; nothing where it fails.
std::optional<Region> try_crop(Size image, const CropRule& rule, const Random4& draws);

/// Throws Error(usage) where the rule makes no sense.
void check_rule(const CropRule& rule);

View random_view(Size image, const CropRule& rule, const AugmentKey& key);

}  // namespace tunas::data
