#include "kernels/parallel.h"

namespace tunas {
namespace {

/// Looks at `open` again this often before sleeping: some 50 us, more than the gap between kernels.
constexpr int kSpins = 20000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Workers::Workers(int threads) {
  for (int slot = 1; slot < threads; ++slot) threads_.emplace_back([this, slot] { serve(slot); });
}

Workers::~Workers() {
  stop_ = true;
  open_ += 2;
  open_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::claim(int slot) {
  for (;;) {
    const long index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count_) return;
    body_(f_, index, slot);
  }
}

void Workers::run(long count, void* f, Body body) {
  f_ = f;
  body_ = body;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  open_.fetch_add(1);  // to odd: publishes the job
  open_.notify_all();
  claim(0);
  open_.fetch_add(1);  // to even: whoever comes now leaves again
  while (inside_.load() != 0) pause_briefly();
}

void Workers::serve(int slot) {
  unsigned seen = 0;
  while (!stop_) {
    for (int spin = 0; spin < kSpins && open_.load(std::memory_order_relaxed) == seen; ++spin) {
      pause_briefly();
    }
    open_.wait(seen);
    seen = open_.load();
    if (seen % 2 == 0) continue;
    // In before looking again: either this thread sees the job closed, or run() sees it inside.
    inside_.fetch_add(1);
    if (open_.load() == seen) claim(slot);
    inside_.fetch_sub(1);
  }
}

}  // namespace tunas
