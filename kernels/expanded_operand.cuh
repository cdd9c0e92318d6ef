// What stands for dy in backward of an output that is not stored (pointwise.h): the matrix
// [dz | u | 1 1 1 0 ...], whose product with three parts of w is du and whose product with u is
// dz^T*u, K and the sums of u.
#pragma once

#include "kernels/operand.cuh"

namespace tunas::kernels {

/// The last pack of a line is a constant.
template <class T>
struct ExpandedOperand {
  const T* dz;
  SourceOperand<T> u;
  int lines, width;
  int out;  // columns of dz

  using Element = T;
  using Loaded = GemmPack<T>;
  __device__ Loaded fetch(int line, int c) const {
    if (c < out) return load_raw<T, kGemmPack>(dz + static_cast<long>(line) * out + c);
    if (c < out + u.width) return u.fetch(line, c - out);
    return {};
  }
  template <int E>
  __device__ void words(const Loaded (&held)[E], int line, int step, int c,
                        GemmPack<T> (&to)[E]) const {
    if (c >= out && c < out + u.width) return u.words(held, line, step, c - out, to);
    const float ones[kGemmPack] = {1, 1, 1};
#pragma unroll
    for (int e = 0; e < E; ++e) {
      to[e] = held[e];
      if (c >= out) pack_words<T>(ones, to[e]);
    }
  }
};

}  // namespace tunas::kernels
