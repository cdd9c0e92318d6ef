// Profile: each kernel call of some steps with its pass, its layer, its declared cost, and when and
// for how long it ran: from timers on the CPU, where a call returns when it is done; on a GPU from
// CUPTI's records or events (kernels/vendor/gpu_clock.h).
//
//   Profile profile(device.stream());
//   device.observe(profile.observer());      // before the network is made
//   profile.start();  ...steps...  profile.stop();
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/device.h"
#include "kernels/observer.h"
#include "kernels/stream.h"
#include "kernels/vendor/gpu_clock.h"

namespace tunas::engine {

class Profile {
 public:
  struct Call {
    std::string_view kernel;
    std::string_view pass, layer;
    Cost cost;
    double begin = 0;  // seconds since the first call
    double seconds = 0;
  };

  /// Watches what the device of `stream` runs. Nothing is seen before start().
  explicit Profile(const Stream& stream, GpuClock::Source source = GpuClock::Source::automatic);
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  Observer* observer() { return &observer_; }
  /// Forgets everything.
  void start();
  /// Waits for the device and collects the times. What was seen does not need the network any more.
  void stop();

  const std::vector<Call>& calls() const { return calls_; }
  /// On a GPU what stood behind the calls, and copies that stood behind none; else empty.
  const std::vector<GpuWork>& work() const { return work_; }
  /// "timers", "CUPTI" or "events".
  const char* clock() const;
  /// Why not CUPTI; empty where it does not apply.
  std::string refusal() const;

 private:
  using Time = std::chrono::steady_clock::time_point;
  void begin(std::string_view kernel, const Cost& cost);
  void end();

  Observer observer_;
  std::shared_ptr<GpuClock> gpu_;  // null on the CPU
  bool watching_ = false;
  Time started_;
  std::set<std::string, std::less<>> names_;  // of passes and layers
  std::vector<Call> calls_;
  std::vector<GpuWork> work_;
};

/// Calls that have something in common, summed.
struct Share {
  std::string pass, layer, kernel;  // empty: summed over
  long calls = 0;
  double seconds = 0;
  Cost cost;
};
enum class By : unsigned char { kernel, layer, both };

/// Bytes a second that the device reads and writes while it only copies: what kernels are held
/// against. Takes half a gigabyte of its memory meanwhile.
double copy_bandwidth(const Device& device);

/// By pass and kernel, by layer, or by pass, layer and kernel; the longest first.
std::vector<Share> shares(const std::vector<Profile::Call>& calls, By by);

}  // namespace tunas::engine
