// The products of gemm_loops.h through oneDNN's sgemm. Each call computes one strip on the thread
// that makes it, so results do not depend on the number of threads; sgemm packs into memory of its
// own. Bias and sums take a second pass over the result.
#include <dnnl.h>
#include <omp.h>

#include "kernels/error.h"
#include "kernels/gemm_loops.h"

namespace tunas::kernels::cpu {
namespace {

// One panel of all columns: [k][n], as sgemm reads it.
constexpr Panels kPanels = {8, 1 << 20};

void sgemm(char trans_a, int m, int n, int k, const float* a, long lda, const float* b, long ldb,
           float beta, float* c, long ldc) {
  thread_local const bool alone = [] {
    omp_set_num_threads(1);  // of this thread: the tiles are what is shared out
    return true;
  }();
  (void)alone;
  const dnnl_status_t status = dnnl_sgemm(trans_a, 'N', m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success) {
    fail(Exit::memory, "oneDNN's sgemm failed with status ", static_cast<int>(status),
         "; use --kernels own");
  }
}

void pack(const Pack& args, int) {
  const int width = kPanels.begin(args.n, 1);
  for (int k = 0; k < args.k; ++k) {
    for (int n = 0; n < width; ++n) {
      args.packed[long{k} * width + n] = n < args.n ? args.b[k * args.row + n * args.column] : 0.0f;
    }
  }
}

void multiply(const Multiply& args) {
  sgemm('N', args.m, args.n, args.k, args.a, args.lda, args.b, args.n,
        args.how == Write::accumulate ? 1 : 0, args.c, args.ldc);
  if (args.bias || args.sums.pivot) gemm_loops().finish(args);
}

void multiply_transposed(const MultiplyTransposed& args) {
  sgemm('T', args.m, args.n, args.rows, args.a, args.lda, args.b, args.ldb,
        args.how == Write::accumulate ? 1 : 0, args.c, args.ldc);
}

}  // namespace

extern const GemmLoops gemm_onednn = {kPanels, pack, multiply, multiply_transposed, nullptr};

}  // namespace tunas::kernels::cpu
