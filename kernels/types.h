// The small enums every kernel speaks.
#pragma once

#include <cstddef>

/// Before what host and device both call.
#ifdef __CUDACC__
#define TUNAS_HD __host__ __device__
#else
#define TUNAS_HD
#endif

namespace tunas {

enum class DType : unsigned char { f32, bf16 };

constexpr std::size_t size_of(DType type) { return type == DType::f32 ? 4 : 2; }

/// relu6(x) = min(max(x,0),6); hard_sigmoid(x) = relu6(x+3)/6; hard_swish(x) = x*hard_sigmoid(x).
enum class Act : unsigned char { none, relu, relu6, hard_swish, sigmoid, hard_sigmoid };

/// The first writer of a gradient overwrites, later ones add.
enum class Write : unsigned char { overwrite, accumulate };

/// `same`: TensorFlow's, output = ceil(in/stride), the odd pixel goes to the bottom/right.
/// `symmetric`: PyTorch's, k/2 on both sides.
enum class Padding : unsigned char { same, symmetric };
/// In files and options; the index is the value of the enum.
inline constexpr const char* kPaddingNames[] = {"same", "symmetric"};

/// One spatial axis of a convolution: pixels before the first, and the output size.
struct Axis {
  int before = 0;
  int after = 0;
  int out = 0;
};

constexpr Axis pad_axis(Padding padding, int in, int k, int stride) {
  if (padding == Padding::symmetric) {
    return {k / 2, k / 2, (in + 2 * (k / 2) - k) / stride + 1};
  }
  const int out = (in + stride - 1) / stride;
  const int needed = (out - 1) * stride + k - in;
  const int total = needed > 0 ? needed : 0;
  return {total / 2, total - total / 2, out};
}

}  // namespace tunas
