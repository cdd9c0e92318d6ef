// Where the sums over rows of a SourceGrad (source.h) lie between the epilogue of dgrad, whose
// blocks leave them (grad_epilogue.cuh), and the kernel that adds them in order (reduce.cuh).
//
//   ungated   [block][S1, S2][c]
//   gated     [part of an image][3][n][c]: dgate and the two slope sums; final where an image is
//             one part
#pragma once

#include "kernels/pointwise.h"
#include "kernels/reduce.cuh"
#include "kernels/row_chunks.cuh"

namespace tunas::kernels::cuda {

/// Where the sums of the epilogue go; null: not wanted.
struct GradSums {
  float* whole = nullptr;  // ungated: [block][S1, S2][c]
  float* dgate = nullptr;  // gated: of part p from p*stride on
  float* slopes = nullptr;
  long stride = 0;
};

/// The partial sums of `blocks` blocks from `partial` on, and what adds them.
class GradPartials {
 public:
  GradPartials(const PointwiseBackward& args, const RowChunks& chunks, int blocks)
      : grad_(args.dx), x_(args.x), parts_(chunks.parts()), blocks_(blocks) {}

  bool gated() const { return x_.gate; }
  long image_sums() const { return static_cast<long>(x_.y.n) * x_.y.c; }
  /// Floats; none where an image is one chunk, whose sums are final.
  std::size_t size() const {
    if (!gated()) return grad_.mean ? static_cast<std::size_t>(blocks_) * 2 * x_.y.c : 0;
    return parts_ > 1 ? static_cast<std::size_t>(parts_) * 3 * image_sums() : 0;
  }
  GradSums sums(float* partial) const {
    if (!gated()) return {grad_.mean ? partial : nullptr};
    if (parts_ == 1) return {nullptr, grad_.dgate, grad_.slope_sums, 0};
    return {nullptr, partial, grad_.slope_sums ? partial + image_sums() : nullptr,
            3 * image_sums()};
  }
  void add_to(OrderedSums& sums, const float* partial) const {
    if (size() == 0) return;
    if (!gated()) return add_source_sums(sums, grad_, partial, blocks_, 2L * x_.y.c, x_.y.c);
    const int n = x_.y.n, c = x_.y.c;
    sums.add({partial, parts_, 3 * image_sums(), n, c, c, grad_.dgate, Write::overwrite});
    if (!grad_.slope_sums) return;
    sums.add({partial + image_sums(), parts_, 3 * image_sums(), 2 * n, c, c, grad_.slope_sums,
              Write::overwrite});
  }

 private:
  const SourceGrad& grad_;
  const Source& x_;
  int parts_, blocks_;
};

}  // namespace tunas::kernels::cuda
