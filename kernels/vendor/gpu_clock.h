// GpuClock: when a GPU ran what each call of a kernel launched.
//
// From CUPTI's records of activity: exact, kernel by kernel, with the copies between the calls.
// Where CUPTI is refused (no library, another profiler is attached, a container without the right)
// from a pair of events around each call, whose time then holds the gaps between its kernels.
#pragma once

#include <memory>
#include <string>
#include <vector>

struct CUstream_st;

namespace tunas {

class Cupti;

/// A kernel, a copy or a memory set that ran on the GPU; from events, all that a call launched.
struct GpuWork {
  long call = -1;    // the one that launched it; -1: none did
  std::string name;  // empty from events
  double begin = 0;  // seconds since the first work of all
  double seconds = 0;
};

class GpuClock {
 public:
  enum class Source : unsigned char { automatic, events };
  /// Watches the GPU of the calling thread. Throws as check() of vendor/cuda.h.
  GpuClock(CUstream_st* stream, Source source);
  GpuClock(const GpuClock&) = delete;
  GpuClock& operator=(const GpuClock&) = delete;
  ~GpuClock();

  /// Why the times come from events; empty where they come from CUPTI.
  const std::string& refusal() const { return refusal_; }

  void start();
  /// Around the host's call number `call`, counted from 0 since start().
  void begin(long call);
  void end();
  /// Waits for the GPU. What it did since start(), in order of time.
  std::vector<GpuWork> stop();

 private:
  struct Events;
  std::string refusal_;
  std::unique_ptr<Cupti> cupti_;
  std::unique_ptr<Events> events_;  // one of the two
};

}  // namespace tunas
