// cuDNN's graph API, wrapped once: one convolution (forward, data gradient or filter gradient) is
// one operation graph, its engine comes from the heuristics, its plan is kept per layer shape.
//
//   y[n,p,q,o] = sum_{i,j,c} w[o,i,j,c] * x[n, p*stride + i - top, q*stride + j - left, g(o) + c]
//
// Tensors are NHWC, filters [out][k][k][c/groups] without gaps; groups = c is depthwise. bf16 or
// float, float accumulation. Engines that are not deterministic, or that would round floats (TF32)
// or sums to something shorter, are passed over. The legacy convolution calls are not used.
#pragma once

#include <cudnn_graph.h>

#include <compare>
#include <map>
#include <memory>
#include <string>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/types.h"

namespace tunas {

/// Throws Error(numeric) on any failure.
inline void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  fail(Exit::numeric, what, ": ", cudnnGetErrorString(status), "; --kernels own needs no cuDNN");
}

namespace kernels {

enum class Pass : unsigned char { forward, dgrad, wgrad };

/// x may be a window into larger images (row, image: elements from one row, one image to the next).
struct ConvShape {
  Pass pass = Pass::forward;
  DType type = DType::bf16;    // of what is read, and of y or dx
  DType result = DType::bf16;  // of what is written; float is worth asking for in a wgrad
  long n = 0, h = 0, w = 0, c = 0;
  long row = 0, image = 0;
  long out = 0, p = 0, q = 0;
  long k = 0, stride = 1, groups = 1;
  long top = 0, left = 0;  // zero pixels before the first row and column
  long alignment = 16;     // of x, in bytes

  auto operator<=>(const ConvShape&) const = default;
  /// Sets row and image for x without gaps.
  void pack() {
    row = w * c;
    image = h * row;
  }
};

class ConvPlan;

/// Memory of one convolution. x: dx in a dgrad; w: dw in a wgrad.
struct ConvData {
  void* x = nullptr;
  void* w = nullptr;
  void* y = nullptr;
};

/// Not for several threads at once.
class Cudnn {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

  /// Throws Error(usage) where the library finds no usable GPU.
  explicit Cudnn(CUstream_st* stream);
  ~Cudnn();
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;

  /// Asks the library's heuristics on the first call with this shape; null where no engine takes
  /// it within kWorkspaceBytes, also remembered. May compile a kernel: seconds.
  const ConvPlan* plan(const ConvShape& shape);

  /// `workspace`: kWorkspaceBytes of device memory.
  void run(const CudaContext& context, const ConvPlan& plan, const ConvData& data, void* workspace);

  std::size_t plans() const { return plans_.size(); }
  /// Why the last shape without a plan has none.
  const std::string& refusal() const { return refusal_; }

 private:
  cudnnHandle_t handle_ = nullptr;
  std::map<ConvShape, std::unique_ptr<ConvPlan>> plans_;
  std::string refusal_;
};

/// Of the context's libraries, which must not be null.
Cudnn& cudnn(const CudaContext& context);

}  // namespace kernels
}  // namespace tunas
