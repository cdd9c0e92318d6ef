// Row loops of the image kernel (image.h), compiled once per instruction set. Rows of pixels are
// [w][3] as decoded and [w][4] once resampled.
#pragma once

#include <cstdint>

#include "kernels/isa.h"

namespace tunas::kernels::cpu {

/// Normalisation of a pixel: value*scale + shift; lane 3 has both zero, so it writes 0.
struct PixelScale {
  alignas(16) float scale[4];
  alignas(16) float shift[4];
};

/// Four taps of the legacy bicubic; `first` counts floats: 3 * the tap's column.
struct CubicTaps {
  int first[4];
  float weight[4];
};

/// Taps of an antialiased filter: source pixels [first, first+count), fixed-point weights.
struct Window {
  int first, count;
  const std::int32_t* weight;
};

/// Fixed point as in Pillow: 8 bits of value, 2 of headroom, the rest is the fraction.
inline constexpr int kWeightBits = 32 - 8 - 2;

struct ImageLoops {
  /// out[i] = sum over 4 rows of weight[k]*rows[k][i], i < n.
  void (*blend_rows)(const std::uint8_t* const* rows, const float* weight, int n, float* out);
  /// Resamples one blended row to `width` pixels; pixel x goes to out + x*step. Reads one float
  /// beyond the row.
  void (*cubic_row)(const float* row, const CubicTaps* taps, int width, const PixelScale& scale,
                    float* out, int step);
  /// [w][3] bytes -> [w][4] integers.
  void (*widen_row)(const std::uint8_t* row, int w, std::int32_t* out);
  /// One widened row to `width` pixels of bytes [width][4], rounded and clamped.
  void (*window_row)(const std::int32_t* row, const Window* windows, int width, std::uint8_t* out);
  /// sum[i] += weight*row[i], i < n.
  void (*add_row)(const std::uint8_t* row, std::int32_t weight, int n, std::int32_t* sum);
  /// Rounds sums to bytes and normalises them; pixel x goes to out + x*step.
  void (*finish_row)(const std::int32_t* sum, int width, const PixelScale& scale, float* out,
                     int step);
};

TUNAS_PER_ISA(ImageLoops, image_loops);

}  // namespace tunas::kernels::cpu
