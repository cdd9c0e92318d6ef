// cuBLASLt: checked calls, and one plan per layer shape. A matrix here is column-major, as the
// library sees it: D[m][n] (+)= op(A)[m][k] * op(B)[k][n]; a packed tensor [rows][c] of ours is its
// c x rows. Products accumulate in float; float operands are multiplied as floats, never as TF32.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <string>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/types.h"

namespace tunas {

/// Throws Error(memory) when the library is out of memory, Error(numeric) on any other failure.
inline void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? Exit::memory : Exit::numeric, what, ": ",
       cublasLtGetStatusString(status), "; --kernels own needs no cuBLASLt");
}

namespace kernels {

struct MatmulShape {
  long m = 0, n = 0, k = 0;
  long lda = 0, ldb = 0, ldd = 0;
  bool transpose_a = false, transpose_b = false;
  DType in = DType::bf16, out = DType::bf16;

  auto operator<=>(const MatmulShape&) const = default;
};

/// Descriptors hold no resources (they are initialised in place), so a plan is a value.
struct MatmulPlan {
  bool usable = false;
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, d;
  cublasLtMatmulAlgo_t algorithm;
};

/// Operands of a product; each must start on kAlignment bytes.
struct MatmulData {
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  Write how = Write::overwrite;
};

/// Not for several threads at once.
class Cublas {
 public:
  static constexpr std::size_t kAlignment = 16;

  /// What one product may use beside its operands.
  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

  /// Throws Error(usage) where the library finds no usable GPU.
  Cublas();
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  /// Asks the library's heuristics on the first call with this shape; null where it has no
  /// algorithm, also remembered.
  MatmulPlan* plan(const MatmulShape& shape);

  /// `workspace`: kWorkspaceBytes of device memory.
  void run(const CudaContext& context, MatmulPlan& plan, const MatmulData& data, void* workspace);

  std::size_t plans() const { return plans_.size(); }
  /// Why the last shape without an algorithm has none.
  const std::string& refusal() const { return refusal_; }

 private:
  MatmulPlan make(const MatmulShape& shape);

  cublasLtHandle_t handle_ = nullptr;
  std::map<MatmulShape, MatmulPlan> plans_;
  std::string refusal_;
};

/// Of the context's libraries, which must not be null.
Cublas& cublas(const CudaContext& context);

}  // namespace kernels
}  // namespace tunas
