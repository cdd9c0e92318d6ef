// Views on memory somebody else owns: activations (NHWC, packed at the active width) and filters
// (stored at the largest width, used as a prefix through leading dimensions).
#pragma once

#include <cstddef>

#include "kernels/types.h"
#include "kernels/width.h"

namespace tunas {

/// Activation [n][h][w][c], packed. `c` is the active width, a multiple of 8 (images: 4).
struct Tensor {
  void* data = nullptr;
  DType type = DType::f32;
  int n = 0, h = 0, w = 0, c = 0;

  long rows() const { return static_cast<long>(n) * h * w; }
  long size() const { return rows() * c; }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(type); }
  float* f32() const { return static_cast<float*>(data); }
  explicit operator bool() const { return data != nullptr; }
};

/// Pointwise and dense filters: [out][k][k][in], leading dimension in.max.
/// Depthwise filters: [k][k][c] with leading dimension in.max; `out` is unused.
struct Filter {
  void* data = nullptr;
  DType type = DType::f32;
  Width out, in;
  int k = 1;

  float* f32() const { return static_cast<float*>(data); }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace tunas
