#include "kernels/vendor/gpu_clock.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/error.h"
#include "kernels/vendor/cupti.h"

namespace tunas {
namespace {

void ok(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(Exit::numeric, what, ": ", cudaGetErrorString(status));
}

struct DestroyEvent {
  void operator()(CUevent_st* event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;

double seconds_between(const Event& a, const Event& b) {
  float milliseconds = 0;
  ok(cudaEventElapsedTime(&milliseconds, a.get(), b.get()), "time between two events");
  return 1e-3 * milliseconds;
}

}  // namespace

/// Events are made once and used again by the next start().
struct GpuClock::Events {
  CUstream_st* stream = nullptr;
  std::vector<Event> made;
  std::size_t used = 0;

  void mark() {
    if (used == made.size()) {
      cudaEvent_t event = nullptr;
      ok(cudaEventCreate(&event), "making an event");
      made.emplace_back(event);
    }
    ok(cudaEventRecord(made[used++].get(), stream), "recording an event");
  }
};

GpuClock::GpuClock(CUstream_st* stream, Source source) {
  if (source == Source::automatic) {
    cupti_ = Cupti::open(refusal_);
  } else {
    refusal_ = "events were asked for";
  }
  if (cupti_) return;
  events_ = std::make_unique<Events>();
  events_->stream = stream;
}

GpuClock::~GpuClock() = default;

void GpuClock::start() {
  if (cupti_) {
    cupti_->start();
  } else {
    events_->used = 0;
  }
}

void GpuClock::begin(long call) {
  if (cupti_) {
    cupti_->push(call);
  } else {
    events_->mark();
  }
}

void GpuClock::end() {
  if (cupti_) {
    cupti_->pop();
  } else {
    events_->mark();
  }
}

std::vector<GpuWork> GpuClock::stop() {
  ok(cudaDeviceSynchronize(), "the GPU's work so far");
  std::vector<GpuWork> all;
  if (cupti_) {
    all = cupti_->stop();
    std::sort(all.begin(), all.end(),
              [](const GpuWork& a, const GpuWork& b) { return a.begin < b.begin; });
    return all;
  }
  const std::vector<Event>& events = events_->made;
  for (std::size_t i = 0; i + 1 < events_->used; i += 2) {
    all.push_back({static_cast<long>(i / 2), "", seconds_between(events[0], events[i]),
                   seconds_between(events[i], events[i + 1])});
  }
  return all;
}

}  // namespace tunas
