// Observer: sees every memory access of a kernel, because the .cu files are compiled with the
// compiler's -fsanitize=thread and linked with observer.cpp instead of its run-time library. It
// finds what compute-sanitizer finds on a GPU:
//
//   memcheck   an access outside every live allocation, or to dynamic shared memory beyond what the
//              launch asked for
//   initcheck  shared memory read before the block has written it
//   racecheck  two threads at one place without a barrier between them, one of them writing; in
//              device memory also two blocks of one launch
//
// and counts what a kernel moves (Traffic). Without that flag (the build under AddressSanitizer)
// nothing calls it and the counts stay zero.
#pragma once

#include <cstddef>
#include <string>

namespace tunas::emulation {

struct Traffic {
  /// 32-byte sectors of device memory, each once for every block that touches it: what reaches a
  /// block whose first-level cache never forgets.
  double sectors_read = 0, sectors_written = 0;
  /// Of the scratch memory, which is not among them.
  double scratch_sectors = 0;
  /// Sectors touched by the accesses of warps, and the fewest that hold the bytes asked for.
  double warp_sectors = 0, least_warp_sectors = 0;
  /// Passes over shared memory's 32 banks, and the fewest for the bytes asked for.
  double bank_passes = 0, least_bank_passes = 0;

  double bytes() const { return 32 * (sectors_read + sectors_written); }
  double scratch_bytes() const { return 32 * scratch_sectors; }
};

/// Counts from here on; off by default, since it is slow. `scratch`: an allocation that is counted
/// apart, or null.
void count_traffic(const void* scratch = nullptr);
/// What was counted since; stops counting. Waits for the device.
Traffic traffic();
/// Are the kernels compiled so that accesses are seen?
bool observing();

Traffic stop_counting();

// For the scheduler and the memory: a launch, its blocks, and what lies where.
/// Of dynamic shared memory the launch may not touch [closed_begin, closed_end).
void observe_launch(const char* closed_begin, const char* closed_end);
void observe_block(int block);
void observe_block_end();
void observe_thread(int thread);  // negative: none, the host's own code runs
void observe_barrier();
void observe_device(const char* begin, const char* end);  // all addresses it will ever use
void observe_alloc(char* data, std::size_t bytes);
void observe_free(char* data);

/// The first thing that went wrong since the last call, empty: nothing.
void report(const std::string& problem);
std::string take_report();

}  // namespace tunas::emulation
