// Softmax cross-entropy with label smoothing, its gradient and the rank of the label, per image.
//
//   target[j] = (1-smoothing)*[j == label] + smoothing/classes            (specification section 8)
//   loss[n] = -sum_j target[j]*log_softmax(logits[n])[j]
//   dlogits[n,j] = (softmax(logits[n])[j] - target[j]) / n                (mean over the batch)
//   rank[n] = number of classes ahead of the label: larger logit, or equal and lower index;
//             top-1 is rank < 1, top-5 rank < 5
// Logits that have no softmax (one of them NaN or plus infinity, or all minus infinity) rank the
// label last (classes). Where a loss is not finite the image's gradient is NaN, though softmax
// itself may be harmless: a step whose loss is not finite has a gradient that is not, either.
// Columns from `classes` to the row stride are ignored in logits and zero in dlogits. On CUDA
// either may be f32 or bf16: logits are f32 as the classifier accumulated them, dlogits is what its
// backward reads.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/source.h"

namespace tunas::kernels {

struct SoftmaxXent {
  Tensor logits;  // [n][1][1][round_up_8(classes)]
  int classes = 0;
  const std::int32_t* labels = nullptr;  // [n], each in [0, classes)
  float smoothing = 0;
  float* loss = nullptr;         // [n]
  std::int32_t* rank = nullptr;  // [n]
  Tensor dlogits;                // data null: not wanted; may alias logits of the same type
};

Cost cost(const SoftmaxXent& args);
namespace cpu {
void softmax_xent(CpuContext& context, const SoftmaxXent& args);
}
namespace cuda {
void softmax_xent(CudaContext& context, const SoftmaxXent& args);
}
inline void softmax_xent(Stream stream, const SoftmaxXent& args) {
  on<cpu::softmax_xent, cuda::softmax_xent>(stream, args);
}

}  // namespace tunas::kernels
