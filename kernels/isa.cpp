#include "kernels/isa.h"

#include <cstdlib>
#include <string_view>

#include "kernels/error.h"

namespace tunas::kernels::cpu {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  // The flags of CMakeLists.txt, one by one: a processor may have AVX-512F without the rest.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx2 && avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::base;
#else
  return Isa::base;
#endif
}

}  // namespace

const char* name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "base";
}

Isa choose_isa(const char* wanted, Isa best) {
  if (wanted == nullptr || *wanted == '\0') return best;
  for (Isa isa : {Isa::base, Isa::avx2, Isa::avx512}) {
    if (std::string_view(wanted) != name(isa)) continue;
    require(isa <= best, "TUNAS_ISA=", wanted, ": this processor has ", name(best), " at most");
    return isa;
  }
  fail(Exit::usage, "TUNAS_ISA=", wanted, " is no instruction set; use base, avx2 or avx512");
}

Isa isa() {
  static const Isa chosen = choose_isa(std::getenv("TUNAS_ISA"), best_isa());
  return chosen;
}

}  // namespace tunas::kernels::cpu
