// The device of the tests of CUDA kernels: one context for all of them, and memory that is
// poisoned, with a guard behind it.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cuda_context.h"

namespace tunas::testing {

inline void cuda_ok(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

/// One context for the whole program.
inline CudaContext& gpu() {
  static CudaContext context = [] {
    CudaContext c;
    cuda_ok(cudaStreamCreate(&c.stream));
    c.workspace_bytes = CudaContext::kWorkspaceBytes;
    void* workspace = nullptr;
    cuda_ok(cudaMalloc(&workspace, c.workspace_bytes));
    cuda_ok(cudaMemset(workspace, 0xff, c.workspace_bytes));  // NaN: nothing may read it first
    c.workspace = static_cast<char*>(workspace);
    c.synchronise = true;
    return c;
  }();
  return context;
}

/// Device memory, poisoned with NaN, and on a GPU a guard of 64 bytes that nobody may write.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    cuda_ok(cudaMalloc(&data_, bytes + kGuard));
    cuda_ok(cudaMemset(data_, 0xff, bytes + kGuard));
  }
  Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), bytes_(o.bytes_) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~Buffer() {
    if (!data_) return;
    std::vector<unsigned char> guard(kGuard);
    cudaDeviceSynchronize();
    cudaMemcpy(guard.data(), static_cast<char*>(data_) + bytes_, kGuard, cudaMemcpyDefault);
    for (const unsigned char byte : guard) {
      if (byte != 0xff) {
        ADD_FAILURE() << "memory behind a tensor of " << bytes_ << " bytes was written";
        break;
      }
    }
    cudaFree(data_);
  }
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
#ifdef TUNAS_EMULATED_CUDA
  static constexpr std::size_t kGuard = 0;  // every access beyond an allocation is seen
#else
  static constexpr std::size_t kGuard = 64;
#endif
  void* data_ = nullptr;
  std::size_t bytes_;
};

}  // namespace tunas::testing
