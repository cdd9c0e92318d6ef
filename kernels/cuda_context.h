// CudaContext: what a kernel on the GPU is given. Plain pointers, so that hosts of kernels need no
// CUDA header; the engine's device owns everything here.
#pragma once

#include <cstddef>

#include "kernels/stream.h"

struct CUstream_st;

namespace tunas {

struct CudaLibraries;  // of kernels/vendor/libraries.h

/// Scratch memory holds partial sums; kernels cut work into chunks that depend on the shape only,
/// never on `multiprocessors`, so that results are the same on every card.
struct CudaContext {
  CUstream_st* stream = nullptr;
  char* workspace = nullptr;  // device memory, aligned to 256 bytes
  std::size_t workspace_bytes = 0;
  int multiprocessors = 0;
  bool synchronise = false;  // wait after each kernel, so that a failure names it
  Kernels kernels = Kernels::automatic;
  CudaLibraries* libraries = nullptr;  // null: own kernels only

  static constexpr std::size_t kWorkspaceBytes = std::size_t{96} << 20;
};

}  // namespace tunas
