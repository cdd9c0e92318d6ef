// The loops of image_loops.h. A pixel is one vector of four lanes; the fourth holds whatever lies
// behind the pixel (a finite number) until PixelScale turns it into zero.
#include "kernels/image_loops.h"

#include "kernels/simd.h"

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

typedef float Pixel __attribute__((vector_size(16)));
typedef std::int32_t IntPixel __attribute__((vector_size(16)));

template <class V, class T>
inline V load_pixel(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

void blend_rows(const std::uint8_t* const* rows, const float* weight, int n, float* out) {
  const std::uint8_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  const float w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
#pragma GCC ivdep
  for (int i = 0; i < n; ++i) out[i] = w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i];
}

void cubic_row(const float* row, const CubicTaps* taps, int width, const PixelScale& scale,
               float* out, int step) {
  const auto mul = load_pixel<Pixel>(scale.scale), add = load_pixel<Pixel>(scale.shift);
  for (int x = 0; x < width; ++x, out += step) {
    const CubicTaps& t = taps[x];
    const Pixel sum = t.weight[0] * load_pixel<Pixel>(row + t.first[0]) +
                      t.weight[1] * load_pixel<Pixel>(row + t.first[1]) +
                      t.weight[2] * load_pixel<Pixel>(row + t.first[2]) +
                      t.weight[3] * load_pixel<Pixel>(row + t.first[3]);
    const Pixel value = sum * mul + add;
    __builtin_memcpy(out, &value, sizeof value);
  }
}

void widen_row(const std::uint8_t* row, int w, std::int32_t* out) {
  for (int x = 0; x < w; ++x, row += 3, out += 4) {
    out[0] = row[0];
    out[1] = row[1];
    out[2] = row[2];
    out[3] = 0;
  }
}

constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

inline IntPixel to_byte(IntPixel sum) {
  sum >>= kWeightBits;
  sum = sum < 0 ? IntPixel{} : sum;
  return sum > 255 ? IntPixel{} + 255 : sum;
}

void window_row(const std::int32_t* row, const Window* windows, int width, std::uint8_t* out) {
  for (int x = 0; x < width; ++x, out += 4) {
    const Window& window = windows[x];
    const std::int32_t* source = row + 4L * window.first;
    IntPixel sum = IntPixel{} + kHalf;
    for (int k = 0; k < window.count; ++k) {
      sum += window.weight[k] * load_pixel<IntPixel>(source + 4L * k);
    }
    const IntPixel value = to_byte(sum);
    for (int c = 0; c < 4; ++c) out[c] = static_cast<std::uint8_t>(value[c]);
  }
}

void add_row(const std::uint8_t* row, std::int32_t weight, int n, std::int32_t* sum) {
#pragma GCC ivdep
  for (int i = 0; i < n; ++i) sum[i] += weight * row[i];
}

void finish_row(const std::int32_t* sum, int width, const PixelScale& scale, float* out, int step) {
  const auto mul = load_pixel<Pixel>(scale.scale), add = load_pixel<Pixel>(scale.shift);
  for (int x = 0; x < width; ++x, sum += 4, out += step) {
    const IntPixel rounded = to_byte(load_pixel<IntPixel>(sum) + kHalf);
    const Pixel value = __builtin_convertvector(rounded, Pixel) * mul + add;
    __builtin_memcpy(out, &value, sizeof value);
  }
}

}  // namespace

extern const ImageLoops image_loops;
const ImageLoops image_loops = {blend_rows, cubic_row, widen_row, window_row, add_row, finish_row};

}  // namespace tunas::kernels::cpu::TUNAS_ISA
