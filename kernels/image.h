// Image kernel: uint8 crops in; resized, flipped, normalised, padded images out.
//
//   out[n, y+top, x+left, c] = (resize(crop n)[y, x', c] - mean[c]) / std[c]
//   with x' = flip ? R-1-x : x, written into [n][R+2*border][R+2*border][4]; channel 3 and the
//   border are zero.
//
// A crop is resized as a whole, or it is what a part of the result of resizing a larger frame needs
// (CropAxis): "the shorter side to 256, then the central 224 x 224" decodes and resamples no more
// than that part, to the same bytes.
//
// Resampling (specification section 17 and TensorFlow 2.2's legacy operators):
//   legacy_bicubic   cubic a = -0.75, source = dst*scale, no half-pixel shift, no antialias; taps
//                    outside the crop are clamped to its edge; values are not clipped to [0,255]
//   bicubic          as Pillow: half-pixel centres, a = -0.5, antialias, result rounded to a byte
//   bilinear         as Pillow: half-pixel centres, triangle filter, antialias, rounded to a byte
//
// Floor: the crops' bytes once, 16*(R+2b)^2 bytes an image written (f32).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cost.h"
#include "kernels/dispatch.h"

namespace tunas {

/// How an axis of a crop becomes the result: `frame` pixels of the image are resampled to `size`
/// positions, of which the result shows those from `shows` on. The crop holds the frame's pixels
/// from `begin` on, as many as they need.
struct CropAxis {
  int frame = 0;  // 0: the crop is the frame and all of it is the result
  int size = 0;
  int shows = 0;
  int begin = 0;

  /// With frame filled in, for a crop of `in` pixels and a result of `out`.
  TUNAS_HD constexpr CropAxis whole(int in, int out) const {
    return frame > 0 ? *this : CropAxis{in, out, 0, 0};
  }
};

/// One decoded crop: RGB bytes [h][w][3] at `pixels + offset`, rows `stride` bytes apart.
struct Crop {
  std::uint64_t offset = 0;
  int h = 0, w = 0;
  int stride = 0;
  bool flip = false;
  CropAxis y = {}, x = {};

  /// From its first byte to its last.
  std::size_t bytes() const {
    return static_cast<std::size_t>(stride) * static_cast<std::size_t>(h - 1) +
           3 * static_cast<std::size_t>(w);
  }
};

enum class Resample : unsigned char { legacy_bicubic, bicubic, bilinear };

/// Of the three colours, on the 0..255 scale. Default: ImageNet's.
struct Normalization {
  float mean[3] = {123.675f, 116.28f, 103.53f};
  float std[3] = {58.395f, 57.12f, 57.375f};
};

namespace kernels {

struct Image {
  const std::uint8_t* pixels = nullptr;
  const Crop* crops = nullptr;  // out.n of them; on CUDA both lie in device memory, unchecked
  Resample resample = Resample::legacy_bicubic;
  Normalization normalization;
  int border = 0;          // zero pixels on each side of out: R = out.h - 2*border
  double crop_pixels = 0;  // h*w summed over the crops, for the cost; 0: as if each had R*R
  Tensor out;              // [n][R+2b][R+2b][4]
};

/// Pixels [first, first + count) of a frame.
struct PixelRange {
  int first = 0, count = 0;
};
/// What `out` positions of the result need, along an axis whose frame is filled in.
PixelRange source_range(Resample resample, const CropAxis& axis, int out);

Cost cost(const Image& args);
namespace cpu {
void image(CpuContext& context, const Image& args);
}
namespace cuda {
// Colours are bytes that lanes read one by one, through the first-level cache; tiles share source
// rows and columns.
inline constexpr Slack kImageSlack{1.35, 0, 3.8, 1.8};
void image(CudaContext& context, const Image& args);
}  // namespace cuda
inline void image(Stream stream, const Image& args) { on<cpu::image, cuda::image>(stream, args); }

}  // namespace kernels
}  // namespace tunas
