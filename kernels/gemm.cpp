#include "kernels/gemm.h"

#include "kernels/error.h"

namespace tunas::kernels::cpu {

#ifdef TUNAS_ONEDNN
extern const GemmLoops gemm_onednn;

const GemmLoops& gemm(const CpuContext& context) {
  return context.kernels == Kernels::library ? gemm_onednn : gemm_loops();
}

void check_available(Kernels) {}
#else
const GemmLoops& gemm(const CpuContext&) { return gemm_loops(); }

void check_available(Kernels kernels) {
  require(
      kernels != Kernels::library,
      "--kernels library: this tunas was built without oneDNN; install Debian's libdnnl-dev and "
      "build again, or use --kernels own");
}
#endif

}  // namespace tunas::kernels::cpu
