// parallel(context, count, f): f(index, slot) for every index in [0, count), on the threads of a
// CPU device. Indices are claimed one by one, so callers cut work into pieces that do not depend on
// the number of threads. `slot` < context.threads names the running thread's scratch memory.
//
// Why not OpenMP: a parallel region there ends when *every* thread of the team has come by. On a
// machine with other work (image decoding, for a start) a thread that is not scheduled stalls each
// of a step's 700 regions by a time slice: 45 s for a step of 0.2 s with eight competitors on two
// cores. Here the caller waits only for threads that have claimed an index; late ones find nothing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/stream.h"

namespace tunas {

/// The threads of one CPU device beside the caller's. One caller at a time.
class Workers {
 public:
  explicit Workers(int threads);
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers();

  using Body = void (*)(void* f, long index, int slot);
  void run(long count, void* f, Body body);

 private:
  void serve(int slot);
  void claim(int slot);

  // The job, valid while `open_` is odd and some thread is in it.
  void* f_ = nullptr;
  Body body_ = nullptr;
  long count_ = 0;
  alignas(64) std::atomic<long> next_{0};
  alignas(64) std::atomic<unsigned> open_{0};  // odd: a job may be joined; changes wake threads
  alignas(64) std::atomic<int> inside_{0};     // threads that may be touching the job
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

/// Exceptions must not leave `f`.
template <class F>
void parallel(CpuContext& context, long count, F&& f) {
  if (context.workers == nullptr || count <= 1) {
    for (long i = 0; i < count; ++i) f(i, 0);
    return;
  }
  context.workers->run(count, &f, [](void* body, long index, int slot) {
    (*static_cast<std::remove_reference_t<F>*>(body))(index, slot);
  });
}

/// f(begin, end) for consecutive pieces of at most `piece` of [0, size).
template <class F>
void parallel_pieces(CpuContext& context, std::size_t size, std::size_t piece, F&& f) {
  parallel(context, static_cast<long>((size + piece - 1) / piece), [&](long p, int) {
    const std::size_t begin = static_cast<std::size_t>(p) * piece;
    f(begin, std::min(begin + piece, size));
  });
}

}  // namespace tunas
