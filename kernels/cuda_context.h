// CudaContext: what a kernel on the GPU is given. Plain pointers, so that hosts of kernels need no
// CUDA header; the engine's device owns everything here.
#pragma once

#include <cstddef>

struct CUstream_st;
struct cublasLtContext;

namespace tunas {

/// Scratch memory holds partial sums; kernels cut work into chunks that depend on the shape only,
/// never on `multiprocessors`, so that results are the same on every card.
struct CudaContext {
  CUstream_st* stream = nullptr;
  char* workspace = nullptr;  // device memory, aligned to 256 bytes
  std::size_t workspace_bytes = 0;
  int multiprocessors = 0;
  cublasLtContext* blas = nullptr;  // null: own kernels only
  bool synchronise = false;         // wait after each kernel, so that a failure names it

  static constexpr std::size_t kWorkspaceBytes = std::size_t{96} << 20;
};

}  // namespace tunas
