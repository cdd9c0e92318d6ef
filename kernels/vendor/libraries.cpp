#include "kernels/vendor/libraries.h"

#include "kernels/library.h"
#include "kernels/vendor/cublas.h"
#include "kernels/vendor/cudnn.h"

namespace tunas {

struct CudaLibraries {
  kernels::Cublas blas;
  kernels::Cudnn dnn;
  LibraryUse use;

  explicit CudaLibraries(CUstream_st* stream) : dnn(stream) {}
};

void DeleteCudaLibraries::operator()(CudaLibraries* libraries) const { delete libraries; }

OwnedCudaLibraries make_cuda_libraries(CUstream_st* stream) {
  return OwnedCudaLibraries(new CudaLibraries(stream));
}

const LibraryUse& library_use(const CudaLibraries& libraries) { return libraries.use; }

namespace kernels {

Cublas& cublas(const CudaContext& context) { return context.libraries->blas; }
Cudnn& cudnn(const CudaContext& context) { return context.libraries->dnn; }

namespace cuda::library {

bool count(const CudaContext& context, bool ran, const char* kernel, const std::string& why) {
  LibraryUse& use = context.libraries->use;
  ++(ran ? use.ran : use.declined);
  if (!ran) use.why = std::string(kernel) + ": " + why;
  return ran;
}

}  // namespace cuda::library
}  // namespace kernels
}  // namespace tunas
