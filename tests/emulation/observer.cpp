#include "observer.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

namespace tunas::emulation {
namespace {

constexpr unsigned kNobody = 0, kMany = 0xfff;  // threads count from 1
constexpr int kUnit = 2, kSector = 32, kLanes = 32;

/// Who touched kUnit bytes last: in which launch, block and stretch between barriers.
struct Touch {
  std::uint64_t launch : 22, block : 20, epoch : 10, thread : 12;
};
struct Cell {
  Touch write, read;
};
struct SectorMark {
  std::uint32_t read = 0, written = 0;  // number of the block (over all launches) that did last
};

struct Allocation {
  char* data;
  std::size_t bytes;
  Cell* cells;
  SectorMark* sectors;
};

/// Zeroed memory that costs nothing until it is touched.
template <class T>
T* lazy(std::size_t count) {
  void* data = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) std::abort();
  madvise(data, count * sizeof(T), MADV_HUGEPAGE);
  return static_cast<T*>(data);
}

struct Access {
  const void* pc;
  std::uintptr_t at;
  std::uint32_t epoch, occurrence;
  std::uint16_t thread, bytes;
  bool shared;
};

struct State {
  std::map<char*, Allocation> allocations;
  Allocation* last = nullptr;
  std::uint32_t launch = 0, block = 0, epoch = 0, block_serial = 0;
  unsigned thread = kNobody;
  const char *device_begin = nullptr, *device_end = nullptr;
  char *shared_begin = nullptr, *shared_end = nullptr;  // the thread-local memory of the program
  const char *closed_begin = nullptr, *closed_end = nullptr;  // of it, for this launch
  std::vector<Cell> shared_cells;
  bool counting = false, seen = false;
  const void* scratch = nullptr;
  Traffic traffic;
  std::vector<Access> accesses;
  std::string problem;
};

State& state() {
  static State s;
  return s;
}
// Read at every access; a plain variable, so that nothing is called where no kernel runs.
bool in_kernel = false;

/// The thread-local memory of the program itself lies just below the thread pointer.
void find_shared(State& s) {
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_TLS) continue;
          const std::size_t bytes =
              (header.p_memsz + header.p_align - 1) / header.p_align * header.p_align;
          auto* found = static_cast<State*>(data);
          found->shared_end = static_cast<char*>(__builtin_thread_pointer());
          found->shared_begin = found->shared_end - bytes;
        }
        return 1;  // the first object is the program
      },
      &s);
  s.shared_cells.resize(static_cast<std::size_t>(s.shared_end - s.shared_begin) / kUnit + 16);
}

const char* access_name(bool write) { return write ? "write" : "read"; }

std::string place(const State& s, const char* where, std::size_t bytes) {
  return " of " + std::to_string(bytes) + " bytes " + where + ", block " + std::to_string(s.block) +
         ", thread " + std::to_string(s.thread - 1);
}

/// May `touch` and an access of the running thread meet without order between them?
bool races(const State& s, const Touch& touch) {
  if (touch.thread == kNobody || touch.launch != s.launch) return false;
  if (touch.block != s.block) return true;
  return touch.epoch == s.epoch && touch.thread != s.thread;
}

void mark(State& s, Touch& touch) {
  const bool same = touch.launch == s.launch && touch.block == s.block && touch.epoch == s.epoch;
  const bool other = same && touch.thread != kNobody && touch.thread != s.thread;
  touch.launch = s.launch;
  touch.block = s.block;
  touch.epoch = s.epoch;
  touch.thread = other ? kMany : s.thread;
}

/// One unit of memory: reports a race, notes the access.
void touch_cell(State& s, Cell& cell, bool write, const char* where, std::size_t bytes) {
  if (races(s, cell.write) || (write && races(s, cell.read))) {
    report(std::string("race: ") + access_name(write) + place(s, where, bytes) +
           " meets another thread's without a barrier between them");
  }
  mark(s, write ? cell.write : cell.read);
}

Allocation* find(State& s, const char* at) {
  if (s.last && at >= s.last->data && at < s.last->data + s.last->bytes) return s.last;
  auto after = s.allocations.upper_bound(const_cast<char*>(at));
  if (after == s.allocations.begin()) return nullptr;
  Allocation& found = std::prev(after)->second;
  if (at >= found.data + found.bytes) return nullptr;
  return s.last = &found;
}

void global_access(State& s, Allocation& in, const char* at, std::size_t bytes, bool write) {
  const auto offset = static_cast<std::size_t>(at - in.data);
  if (offset + bytes > in.bytes) {
    report(std::string("out of bounds: ") + access_name(write) +
           place(s, "of device memory", bytes));
    return;
  }
  for (std::size_t unit = offset / kUnit; unit <= (offset + bytes - 1) / kUnit; ++unit) {
    touch_cell(s, in.cells[unit], write, "of device memory", bytes);
  }
  if (!s.counting) return;
  for (std::size_t i = offset / kSector; i <= (offset + bytes - 1) / kSector; ++i) {
    std::uint32_t& last = write ? in.sectors[i].written : in.sectors[i].read;
    if (last == s.block_serial) continue;
    last = s.block_serial;
    if (in.data == s.scratch) {
      s.traffic.scratch_sectors += 1;
    } else {
      (write ? s.traffic.sectors_written : s.traffic.sectors_read) += 1;
    }
  }
}

void shared_access(State& s, const char* at, std::size_t bytes, bool write) {
  if (at + bytes > s.closed_begin && at < s.closed_end) {
    report(std::string("out of bounds: ") + access_name(write) +
           place(s, "of shared memory beyond the launch's", bytes));
    return;
  }
  const auto offset = static_cast<std::size_t>(at - s.shared_begin);
  for (std::size_t unit = offset / kUnit; unit <= (offset + bytes - 1) / kUnit; ++unit) {
    Cell& cell = s.shared_cells[unit];
    if (!write && (cell.write.launch != s.launch || cell.write.block != s.block)) {
      report("uninitialised: read" + place(s, "of shared memory", bytes));
      return;
    }
    // Blocks follow one another in the same memory.
    if (cell.read.block != s.block) cell.read.thread = kNobody;
    if (cell.write.block != s.block) cell.write.thread = kNobody;
    touch_cell(s, cell, write, "of shared memory", bytes);
  }
}

void access(const void* address, std::size_t bytes, bool write, const void* pc) {
  State& s = state();
  const char* at = static_cast<const char*>(address);
  s.seen = true;
  const bool shared = at >= s.shared_begin && at < s.shared_end;
  if (shared) {
    shared_access(s, at, bytes, write);
  } else if (Allocation* in = find(s, at)) {
    global_access(s, *in, at, bytes, write);
  } else if (at >= s.device_begin && at < s.device_end) {
    report(std::string("out of bounds: ") + access_name(write) +
           place(s, "outside every allocation", bytes));
    return;
  } else {
    return;  // registers and constants
  }
  if (!s.counting) return;
  for (std::size_t piece = 0; piece < bytes; piece += 16) {  // as the card cuts wider words
    s.accesses.push_back({pc, reinterpret_cast<std::uintptr_t>(at) + piece, s.epoch, 0,
                          static_cast<std::uint16_t>(s.thread - 1),
                          static_cast<std::uint16_t>(std::min<std::size_t>(bytes - piece, 16)),
                          shared});
  }
}

/// One access of a warp: what its lanes did at one place of the program.
void count_warp(Traffic& traffic, const Access* lanes, std::size_t count) {
  std::size_t total = 0;
  for (std::size_t i = 0; i < count; ++i) total += lanes[i].bytes;
  if (!lanes[0].shared) {
    std::vector<std::uintptr_t> sectors;
    for (std::size_t i = 0; i < count; ++i) {
      for (std::uintptr_t a = lanes[i].at / kSector;
           a <= (lanes[i].at + lanes[i].bytes - 1) / kSector; ++a) {
        sectors.push_back(a);
      }
    }
    std::sort(sectors.begin(), sectors.end());
    sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
    traffic.warp_sectors += static_cast<double>(sectors.size());
    traffic.least_warp_sectors += std::min(static_cast<double>(sectors.size()),
                                           static_cast<double>((total + kSector - 1) / kSector));
    return;
  }
  // Wide accesses go in phases of 128 bytes: eight lanes of 16, sixteen of 8.
  const int each = lanes[0].bytes >= 16 ? 8 : lanes[0].bytes >= 8 ? 16 : 32;
  for (int phase = 0; phase < kLanes / each; ++phase) {
    std::vector<std::uintptr_t> words;
    for (std::size_t i = 0; i < count; ++i) {
      if (lanes[i].thread % kLanes / each != phase) continue;
      for (std::uintptr_t w = lanes[i].at / 4; w <= (lanes[i].at + lanes[i].bytes - 1) / 4; ++w) {
        words.push_back(w);
      }
    }
    if (words.empty()) continue;
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    int bank[32] = {}, most = 0;
    for (const std::uintptr_t w : words) most = std::max(most, ++bank[w % 32]);
    traffic.bank_passes += most;
    traffic.least_bank_passes += static_cast<double>((words.size() + 31) / 32);
  }
}

void count_accesses(State& s) {
  std::vector<Access>& all = s.accesses;
  const auto order = [](const Access& a, const Access& b) {
    if (a.thread / kLanes != b.thread / kLanes) return a.thread / kLanes < b.thread / kLanes;
    if (a.pc != b.pc) return a.pc < b.pc;
    if (a.epoch != b.epoch) return a.epoch < b.epoch;
    return a.occurrence < b.occurrence;
  };
  std::stable_sort(all.begin(), all.end(), [](const Access& a, const Access& b) {
    if (a.thread != b.thread) return a.thread < b.thread;
    if (a.pc != b.pc) return a.pc < b.pc;
    return a.epoch < b.epoch;
  });
  for (std::size_t i = 1; i < all.size(); ++i) {
    const bool again = all[i].thread == all[i - 1].thread && all[i].pc == all[i - 1].pc &&
                       all[i].epoch == all[i - 1].epoch;
    all[i].occurrence = again ? all[i - 1].occurrence + 1 : 0;
  }
  std::sort(all.begin(), all.end(), order);
  for (std::size_t i = 0; i < all.size();) {
    std::size_t end = i + 1;
    while (end < all.size() && !order(all[i], all[end])) ++end;
    count_warp(s.traffic, &all[i], end - i);
    i = end;
  }
  all.clear();
}

}  // namespace

void report(const std::string& problem) {
  if (state().problem.empty()) state().problem = problem;
}
std::string take_report() { return std::exchange(state().problem, {}); }
bool observing() { return state().seen; }

void count_traffic(const void* scratch) {
  state().traffic = {};
  state().scratch = scratch;
  state().counting = true;
}

Traffic stop_counting() {
  state().counting = false;
  return state().traffic;
}

void observe_launch(const char* closed_begin, const char* closed_end) {
  if (!state().shared_begin) find_shared(state());
  state().closed_begin = closed_begin;
  state().closed_end = closed_end;
  state().launch = (state().launch + 1) & 0x3fffff;
}
void observe_block(int block) {
  State& s = state();
  s.block = static_cast<std::uint32_t>(block) & 0xfffff;
  ++s.block_serial;
  s.epoch = 0;
}
void observe_block_end() {
  if (state().counting) count_accesses(state());
}
void observe_thread(int thread) {
  state().thread = static_cast<unsigned>(thread + 1);
  in_kernel = thread >= 0;
}
void observe_barrier() { state().epoch = (state().epoch + 1) & 0x3ff; }
void observe_device(const char* begin, const char* end) {
  state().device_begin = begin;
  state().device_end = end;
}
void observe_alloc(char* data, std::size_t bytes) {
  state().allocations[data] = {data, bytes, lazy<Cell>(bytes / kUnit + 1),
                               lazy<SectorMark>(bytes / kSector + 1)};
  state().last = nullptr;
}
void observe_free(char* data) {
  const auto at = state().allocations.find(data);
  if (at == state().allocations.end()) return;
  munmap(at->second.cells, (at->second.bytes / kUnit + 1) * sizeof(Cell));
  munmap(at->second.sectors, (at->second.bytes / kSector + 1) * sizeof(SectorMark));
  state().allocations.erase(at);
  state().last = nullptr;
}

}  // namespace tunas::emulation

// What the compiler calls under -fsanitize=thread.
extern "C" {
using tunas::emulation::access;
using tunas::emulation::in_kernel;

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define TUNAS_HOOKS(size)                                                \
  void __tsan_read##size(void* at) {                                     \
    if (in_kernel) access(at, size, false, __builtin_return_address(0)); \
  }                                                                      \
  void __tsan_write##size(void* at) {                                    \
    if (in_kernel) access(at, size, true, __builtin_return_address(0));  \
  }                                                                      \
  void __tsan_unaligned_read##size(void* at) {                           \
    if (in_kernel) access(at, size, false, __builtin_return_address(0)); \
  }                                                                      \
  void __tsan_unaligned_write##size(void* at) {                          \
    if (in_kernel) access(at, size, true, __builtin_return_address(0));  \
  }
TUNAS_HOOKS(1)
TUNAS_HOOKS(2)
TUNAS_HOOKS(4)
TUNAS_HOOKS(8)
TUNAS_HOOKS(16)
#undef TUNAS_HOOKS
void __tsan_read_range(void* at, unsigned long bytes) {
  if (in_kernel) access(at, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* at, unsigned long bytes) {
  if (in_kernel) access(at, bytes, true, __builtin_return_address(0));
}
unsigned char __tsan_atomic8_load(const volatile unsigned char* at, int) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
}
