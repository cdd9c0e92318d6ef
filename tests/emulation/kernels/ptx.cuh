// What kernels/ptx.cuh says in assembly, for the emulation: found first on its include path.
#pragma once

#include "kernels/vendor/cuda.h"

namespace tunas::kernels {

inline float relu_of(float z) { return z <= 0 ? 0.0f : z; }
inline float at_most_6(float z) { return z >= 6 ? 6.0f : z; }

struct MatrixRow {
  unsigned own[4];      // the row this lane points at: eight bf16
  unsigned* fragments;  // what this lane receives
};

template <bool kTransposed>
void load_matrices(unsigned (&v)[4], const bf16* row) {
  const uint4 words = *reinterpret_cast<const uint4*>(row);
  MatrixRow mine{{words.x, words.y, words.z, words.w}, v};
  emulation::meet(0xffffffffu, &mine, [](void** lanes) {
    const auto element = [&](int matrix, int r, int c) {
      const auto* p = static_cast<const MatrixRow*>(lanes[8 * matrix + r]);
      return p->own[c / 2] >> (c % 2 * 16) & 0xffffu;
    };
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const int r = lane / 4, c = lane % 4 * 2;
        const unsigned low = kTransposed ? element(matrix, c, r) : element(matrix, r, c);
        const unsigned high = kTransposed ? element(matrix, c + 1, r) : element(matrix, r, c + 1);
        static_cast<MatrixRow*>(lanes[lane])->fragments[matrix] = low | high << 16;
      }
    }
  });
}

struct Fragments {
  float* d;
  unsigned a[4], b[2];
};

inline void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  Fragments mine{d, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulation::meet(0xffffffffu, &mine, [](void** lanes) {
    const auto half = [](unsigned word, int which) {
      return __uint_as_float(which ? word & 0xffff0000u : word << 16);
    };
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* p = static_cast<const Fragments*>(lanes[lane]);
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int i = 0; i < 2; ++i) {
        left[group][pair + i] = half(p->a[0], i);
        left[group + 8][pair + i] = half(p->a[1], i);
        left[group][pair + 8 + i] = half(p->a[2], i);
        left[group + 8][pair + 8 + i] = half(p->a[3], i);
        right[pair + i][group] = half(p->b[0], i);
        right[pair + 8 + i][group] = half(p->b[1], i);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      float* to = static_cast<const Fragments*>(lanes[lane])->d;
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
        to[e] += sum;
      }
    }
  });
}

}  // namespace tunas::kernels
