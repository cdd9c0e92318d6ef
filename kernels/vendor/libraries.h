// cuBLASLt and cuDNN, both handles and their plan caches, as the owner of a CUDA device sees them:
// without their headers.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda_context.h"
#include "kernels/error.h"

namespace tunas {

struct CudaLibraries;  // outside of .cpp files of kernels/vendor an opaque handle

struct DeleteCudaLibraries {
  void operator()(CudaLibraries* libraries) const;
};

using OwnedCudaLibraries = std::unique_ptr<CudaLibraries, DeleteCudaLibraries>;

/// How often the twins ran, how often they left a call to the own kernel, and why the last time.
struct LibraryUse {
  long ran = 0, declined = 0;
  std::string why;
};

namespace kernels::cuda {

#ifdef TUNAS_CUDA_LIBRARIES
inline constexpr bool kBuiltWithCudaLibraries = true;
#else
inline constexpr bool kBuiltWithCudaLibraries = false;
#endif

/// Throws Error(usage) where `kernels` asks for libraries that this build lacks.
inline void check_available(Kernels kernels) {
  require(kernels != Kernels::library || kBuiltWithCudaLibraries,
          "--kernels library: this tunas was built without cuBLASLt and cuDNN; install NVIDIA's "
          "Debian packages libcublas-dev and libcudnn9-dev and build again, or use --kernels own");
}

}  // namespace kernels::cuda

#ifdef TUNAS_CUDA_LIBRARIES
/// To be called for --kernels library only: it takes device memory and the better part of a second.
/// Everything runs on `stream`. Throws Error(usage) where a library finds no usable GPU.
OwnedCudaLibraries make_cuda_libraries(CUstream_st* stream);

const LibraryUse& library_use(const CudaLibraries& libraries);
#endif

}  // namespace tunas
