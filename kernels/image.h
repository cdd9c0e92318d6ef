// Image kernel: uint8 crops in; resized, flipped, normalised, padded images out.
//
//   out[n, y+top, x+left, c] = (resize(crop n)[y, x', c] - mean[c]) / std[c]
//   with x' = flip ? R-1-x : x, written into [n][R+2*border][R+2*border][4]; channel 3 and the
//   border are zero.
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

/// One decoded crop: RGB bytes [h][w][3] at `pixels + offset`, rows `stride` bytes apart.
struct Crop {
  std::uint64_t offset = 0;
  int h = 0, w = 0;
  int stride = 0;
  bool flip = false;

  /// From its first byte to its last.
  std::size_t bytes() const {
    return static_cast<std::size_t>(stride) * static_cast<std::size_t>(h - 1) +
           3 * static_cast<std::size_t>(w);
  }
};

enum class Resample : unsigned char { legacy_bicubic, bicubic, bilinear };

namespace kernels {

struct Image {
  const std::uint8_t* pixels = nullptr;
  const Crop* crops = nullptr;  // out.n of them; on CUDA both lie in device memory, unchecked
  Resample resample = Resample::legacy_bicubic;
  float mean[3] = {123.675f, 116.28f, 103.53f};  // on the 0..255 scale
  float std[3] = {58.395f, 57.12f, 57.375f};
  int border = 0;          // zero pixels on each side of out: R = out.h - 2*border
  double crop_pixels = 0;  // h*w summed over the crops, for the cost; 0: as if each had R*R
  Tensor out;              // [n][R+2b][R+2b][4]
};

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
