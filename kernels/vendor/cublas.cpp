#include "kernels/vendor/cublas.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <sstream>

namespace tunas::kernels {
namespace {

cudaDataType_t type_of(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

template <class T>
cublasStatus_t set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                   const T& value) {
  return cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value));
}

template <class T>
void prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
            const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
        "cuBLASLt preference");
}

}  // namespace

Cublas::Cublas() {
  const cublasStatus_t status = cublasLtCreate(&handle_);
  require(status == CUBLAS_STATUS_SUCCESS, "--kernels library: cuBLASLt does not start (",
          cublasLtGetStatusString(status), "); it needs an NVIDIA GPU and its driver, ",
          "--kernels own does without cuBLASLt");
}

Cublas::~Cublas() { cublasLtDestroy(handle_); }

MatmulPlan Cublas::make(const MatmulShape& s) {
  MatmulPlan plan{};
  check(cublasLtMatmulDescInit(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cuBLASLt matmul");
  const cublasOperation_t a = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t b = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(set(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, a), "cuBLASLt transpose A");
  check(set(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, b), "cuBLASLt transpose B");
  const auto layout = [](cublasLtMatrixLayout_t to, DType type, long rows, long columns, long ld) {
    check(cublasLtMatrixLayoutInit(to, type_of(type), static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), ld),
          "cuBLASLt layout");
  };
  layout(&plan.a, s.in, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda);
  layout(&plan.b, s.in, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb);
  layout(&plan.d, s.out, s.m, s.n, s.ldd);

  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference), "cuBLASLt preference");
  prefer(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
  // Sums of a split k in float: not in the type of D.
  prefer(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         std::uint32_t{CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(&preference, attribute, std::uint32_t{kAlignment});
  }
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, &plan.operation, &plan.a, &plan.b, &plan.d, &plan.d, &preference, 1, &found, &count);
  plan.usable = status == CUBLAS_STATUS_SUCCESS && count > 0 &&
                found.state == CUBLAS_STATUS_SUCCESS && found.workspaceSize <= kWorkspaceBytes;
  plan.algorithm = found.algo;
  if (!plan.usable) {
    std::ostringstream why;
    why << "cuBLASLt has no algorithm for m=" << s.m << " n=" << s.n << " k=" << s.k
        << " lda=" << s.lda << " ldb=" << s.ldb << " ldd=" << s.ldd << ": "
        << cublasLtGetStatusString(status != CUBLAS_STATUS_SUCCESS ? status : found.state);
    refusal_ = why.str();
  }
  return plan;
}

MatmulPlan* Cublas::plan(const MatmulShape& shape) {
  auto place = plans_.find(shape);
  if (place == plans_.end()) place = plans_.emplace(shape, make(shape)).first;
  return place->second.usable ? &place->second : nullptr;
}

void Cublas::run(const CudaContext& context, MatmulPlan& plan, const MatmulData& data,
                 void* workspace) {
  const float alpha = 1, beta = data.how == Write::accumulate ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle_, &plan.operation, &alpha, data.a, &plan.a, data.b, &plan.b, &beta,
                       data.d, &plan.d, data.d, &plan.d, &plan.algorithm, workspace,
                       kWorkspaceBytes, context.stream),
        "cublasLtMatmul");
  if (!context.synchronise) return;
  const cudaError_t status = cudaStreamSynchronize(context.stream);
  if (status != cudaSuccess) fail(Exit::numeric, "cublasLtMatmul: ", cudaGetErrorString(status));
}

}  // namespace tunas::kernels
