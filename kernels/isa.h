// Instruction sets. Every X_loops.cpp is compiled once for each of them into namespace
// tunas::kernels::cpu::{base, avx2, avx512} and leaves a table of function pointers there;
// TUNAS_PER_ISA declares the tables and the function that picks one at run time.
//
// base is what the compiler targets by default: SSE2 on x86-64, NEON on 64-bit Arm.
#pragma once

namespace tunas::kernels::cpu {

enum class Isa : unsigned char { base, avx2, avx512 };

/// The best instruction set of this processor, or the lower one that the environment variable
/// TUNAS_ISA=base|avx2|avx512 asks for; decided at the first call. Throws Error(usage) when the
/// variable names none or one that this processor lacks.
Isa isa();

const char* name(Isa isa);

/// isa() without its memory: what `wanted` (null: nothing) leads to on a processor with `best`.
Isa choose_isa(const char* wanted, Isa best);

}  // namespace tunas::kernels::cpu

// static: each translation unit has its own copy, so none compiled for AVX-512 is linked elsewhere.
#if defined(__x86_64__)
#define TUNAS_PER_ISA(Table, table)                     \
  namespace base {                                      \
  extern const Table table;                             \
  }                                                     \
  namespace avx2 {                                      \
  extern const Table table;                             \
  }                                                     \
  namespace avx512 {                                    \
  extern const Table table;                             \
  }                                                     \
  [[maybe_unused]] static inline const Table& table() { \
    switch (isa()) {                                    \
      case Isa::avx512:                                 \
        return avx512::table;                           \
      case Isa::avx2:                                   \
        return avx2::table;                             \
      default:                                          \
        return base::table;                             \
    }                                                   \
  }                                                     \
  static_assert(true)
#else
#define TUNAS_PER_ISA(Table, table)                                           \
  namespace base {                                                            \
  extern const Table table;                                                   \
  }                                                                           \
  [[maybe_unused]] static inline const Table& table() { return base::table; } \
  static_assert(true)
#endif
