// Stream: where a kernel runs. Cpu: a CpuContext; Cuda: a CudaContext; Dry: a Tally. And who looks
// on.
#pragma once

#include <cstddef>

#include "kernels/cost.h"

namespace tunas {

enum class Kind : unsigned char { cpu, cuda, dry };

struct Observer;  // of kernels/observer.h

struct Stream {
  Kind kind = Kind::cpu;
  void* handle = nullptr;
  Observer* observer = nullptr;  // null: nobody
};

class Workers;

/// Whose kernels compute where a library has the same one: ours, the library's, or whichever was
/// measured faster.
enum class Kernels : unsigned char { automatic, own, library };

/// Threads and scratch memory of the CPU backend. Kernels cut work into tiles that do not depend
/// on `threads`; `workspace` holds partial sums and the threads' tiles (kWorkspaceBytes in all).
struct CpuContext {
  int threads = 1;
  Workers* workers = nullptr;  // of kernels/parallel.h; null: the caller's thread alone
  char* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  Kernels kernels = Kernels::automatic;

  static constexpr std::size_t kWorkspaceBytes = std::size_t{96} << 20;
};

/// What a dry run would have done.
struct Tally {
  Cost cost;
  long calls = 0;
};

}  // namespace tunas
