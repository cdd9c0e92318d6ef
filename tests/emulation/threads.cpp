// The threads of a block as fibers: each runs until it must wait, then another goes on. Threads
// start, and leave every barrier, in an order that changes from block to block.
#include <sys/mman.h>

#include <cstdlib>
#include <deque>
#include <numeric>
#include <vector>

#include "cuda_runtime.h"
#include "observer.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// switch_stack(save, load): pushes what the ABI asks a function to preserve, exchanges stacks.
#if defined(__x86_64__)
asm(R"(
.text
.globl tunas_switch_stack
tunas_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void tunas_switch_stack(void** save, void* load);
#else
#error "the emulation's fibers are written for x86-64; five lines of assembly are missing here"
#endif

namespace tunas {
namespace emulation {
constexpr std::size_t kSharedBytes = 227 * 1024;
}
namespace kernels {
/// The dynamic shared memory of dynamic_shared() in kernels/vendor/cuda.h.
alignas(16) thread_local char shared_bytes[emulation::kSharedBytes];
}  // namespace kernels
}  // namespace tunas

namespace tunas::emulation {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;
constexpr int kMaxThreads = 1024, kLanes = 32;

struct Fiber {
  char* stack = nullptr;
  void* pointer = nullptr;
  void* fake = nullptr;  // AddressSanitizer's own stack of this fiber
};

enum class State : unsigned char { fresh, ready, waiting, finished };

struct Warp {
  unsigned arrived = 0;
  void* payloads[kLanes] = {};
};

/// One block at a time.
class Block {
 public:
  void run(dim3 block, unsigned seed, const std::function<void()>& body) {
    body_ = &body;
    seed_ = seed;
    threads_ = static_cast<int>(block.x * block.y * block.z);
    state_.assign(static_cast<std::size_t>(threads_), State::fresh);
    fiber_of_.assign(static_cast<std::size_t>(threads_), -1);
    warps_.assign(static_cast<std::size_t>((threads_ + kLanes - 1) / kLanes), {});
    queue_.clear();
    next_ = 0;
    arrived_ = 0;
    wake(0, threads_);
    int finished = 0;
    while (next_ < queue_.size()) {
      current_ = queue_[next_++];
      if (next_ == queue_.size()) {
        queue_.clear();
        next_ = 0;
      }
      resume();
      finished += state_[static_cast<std::size_t>(current_)] == State::finished;
    }
    if (finished < threads_) {
      report(
          std::to_string(threads_ - finished) + " of " + std::to_string(threads_) +
          " threads of a block wait where the others never come (a barrier or a warp's meeting)");
      abandon();
    }
  }

  void barrier() {
    if (++arrived_ == threads_) {
      arrived_ = 0;
      observe_barrier();
      wake(0, threads_);
    }
    wait();
  }

  void meet(unsigned mask, void* payload, void (*join)(void**)) {
    const int lane = current_ % kLanes, first = current_ - lane;
    Warp& warp = warps_[static_cast<std::size_t>(first / kLanes)];
    warp.arrived |= 1u << lane;
    warp.payloads[lane] = payload;
    if (warp.arrived == mask) {
      join(warp.payloads);
      warp = {};
      wake(first, kLanes, mask);
    }
    wait();
  }

 private:
  /// Appends the `count` threads from `first` to those that may run, in an order of its own; of a
  /// warp those of `mask`.
  void wake(int first, int count, unsigned mask = ~0u) {
    const auto n = static_cast<unsigned>(count);
    seed_ = seed_ * 1664525u + 1013904223u;
    const unsigned start = (seed_ >> 8) % n;
    unsigned stride = 1 + (seed_ >> 16) % n;
    while (std::gcd(n, stride) != 1) stride = stride % n + 1;
    for (unsigned i = 0; i < n; ++i) {
      const unsigned t = (start + i * stride) % n;
      if (mask == ~0u || (mask >> t & 1)) queue_.push_back(first + static_cast<int>(t));
    }
  }

  void resume() {
    int& fiber = fiber_of_[static_cast<std::size_t>(current_)];
    if (fiber < 0) fiber = take_fiber();
    const unsigned t = static_cast<unsigned>(current_);
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    running_ = fiber;
    observe_thread(current_);
    Fiber& to = fibers_[static_cast<std::size_t>(fiber)];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_.fake, to.stack, kStackBytes);
#endif
    tunas_switch_stack(&scheduler_.pointer, to.pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(scheduler_.fake, nullptr, nullptr);
#endif
    observe_thread(-1);
    if (state_[static_cast<std::size_t>(current_)] == State::finished) {
      idle_.push_back(fiber);
      fiber = -1;
    }
  }

  /// Back to the scheduler, on the stack of the thread that waits or has finished.
  void leave() {
    Fiber& own = fibers_[static_cast<std::size_t>(running_)];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&own.fake, bottom_, size_);
#endif
    tunas_switch_stack(&own.pointer, scheduler_.pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(own.fake, &bottom_, &size_);
#endif
  }

  void wait() {
    state_[static_cast<std::size_t>(current_)] = State::waiting;
    leave();
  }

  int take_fiber() {
    if (idle_.empty()) {
      Fiber fiber;
      void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED) std::abort();
      fiber.stack = static_cast<char*>(stack);
      auto** top = reinterpret_cast<void**>(fiber.stack + kStackBytes);
      *--top = nullptr;  // the entry has no caller; keeps the stack aligned at its first call
      *--top = reinterpret_cast<void*>(&Block::enter);
      for (int i = 0; i < 6; ++i) *--top = nullptr;
      fiber.pointer = top;
      fibers_.push_back(fiber);
      idle_.push_back(static_cast<int>(fibers_.size()) - 1);
    }
    const int fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }

  /// A fiber runs one thread after another.
  static void enter();

  /// Threads that wait for ever: their stacks are given up.
  void abandon() {
    for (int& fiber : fiber_of_) {
      if (fiber >= 0) fibers_[static_cast<std::size_t>(fiber)] = {};
    }
  }

  const std::function<void()>* body_ = nullptr;
  int threads_ = 0, current_ = 0, running_ = 0, arrived_ = 0;
  unsigned seed_ = 0;
  std::vector<State> state_;
  std::vector<int> fiber_of_;
  std::vector<Warp> warps_;
  std::vector<int> queue_;
  std::size_t next_ = 0;
  std::deque<Fiber> fibers_;  // a fiber that waits refers to its own while others are added
  std::vector<int> idle_;
  Fiber scheduler_;
  const void* bottom_ = nullptr;  // of the scheduler's stack
  std::size_t size_ = 0;
};

Block& the_block() {
  static Block block;
  return block;
}

void Block::enter() {
  Block& block = the_block();
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &block.bottom_, &block.size_);
#endif
  for (;;) {
    (*block.body_)();
    block.state_[static_cast<std::size_t>(block.current_)] = State::finished;
    block.leave();
  }
}

}  // namespace

void run_grid(dim3 grid, dim3 block, std::size_t shared, const std::function<void()>& body) {
  static unsigned launches = 0;
  const unsigned threads = block.x * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || grid.x * grid.y * grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535 || shared > kSharedBytes) {
    report("a launch of " + std::to_string(threads) + " threads, grid " + std::to_string(grid.x) +
           "x" + std::to_string(grid.y) + "x" + std::to_string(grid.z) + ", " +
           std::to_string(shared) + " bytes of shared memory");
    return;
  }
  gridDim = grid;
  blockDim = block;
  char* const dynamic = kernels::shared_bytes;
  observe_launch(dynamic + shared, dynamic + kSharedBytes);
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(dynamic, kSharedBytes);
  ASAN_POISON_MEMORY_REGION(dynamic + shared, kSharedBytes - shared);
#endif
  ++launches;
  int number = 0;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x, ++number) {
        blockIdx = {x, y, z};
        observe_block(number);
        the_block().run(block, launches * 7919u + static_cast<unsigned>(number), body);
        observe_block_end();
      }
    }
  }
}

void barrier() { the_block().barrier(); }
void meet(unsigned mask, void* payload, void (*join)(void**)) {
  the_block().meet(mask, payload, join);
}

}  // namespace tunas::emulation
