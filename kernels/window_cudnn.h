// Which plan a convolution gets (cudnn.h), and on what memory. First choice: x where it lies, its
// border of zeros left to the library, which need not take an uneven border or a window into larger
// images. Second choice: x copied into a window, exactly the pixels that are read, border included.
// A filter gradient is asked for in float, then in the type of x.
#pragma once

#include <optional>

#include "kernels/passes.h"
#include "kernels/vendor/cudnn.h"

namespace tunas::kernels::cuda::library {

struct WindowChoice {
  ConvShape shape;  // of a chunk, without n
  ImageChunks chunks;
  ChunkPlans<const ConvPlan*> plans;
  bool copied = false;  // x lies in windows [shape.h][shape.w][shape.c]

  std::size_t window_bytes() const {
    return copied ? static_cast<std::size_t>(shape.image) * size_of(shape.type) : 0;
  }
};

/// `bytes`: of memory that an image needs beside its window; `space`: of memory there is.
inline std::optional<WindowChoice> choose(Cudnn& dnn, const ConvShape& shape, int images,
                                          std::size_t bytes, std::size_t space) {
  for (const bool copied : {false, true}) {
    for (const DType result : {DType::f32, DType::bf16}) {
      if (result != shape.type && (shape.pass != Pass::wgrad || result != DType::f32)) continue;
      WindowChoice choice{shape, {}, {}, copied};
      choice.shape.result = result;
      if (copied) {
        choice.shape.h = (shape.p - 1) * shape.stride + shape.k;
        choice.shape.w = (shape.q - 1) * shape.stride + shape.k;
        choice.shape.top = choice.shape.left = 0;
        choice.shape.alignment = 16;
        choice.shape.pack();
      }
      choice.chunks = ImageChunks(images, bytes + choice.window_bytes(), space);
      if (choice.chunks.count == 0) continue;
      choice.plans = {dnn, choice.chunks, [&](int n) {
                        ConvShape chunk = choice.shape;
                        chunk.n = n;
                        return chunk;
                      }};
      if (choice.plans.last) return choice;
    }
  }
  return std::nullopt;
}

}  // namespace tunas::kernels::cuda::library
