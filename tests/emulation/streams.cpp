// Device memory, streams, events and graphs. Work on a stream is late on purpose: it runs when
// something waits for it, or when a coin says so, never in between; so a host that reads or reuses
// memory too early reads old values or destroys new ones, as it may on a GPU. Device memory is
// closed to the host: it can only be touched while the device works.
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <vector>

#include "cuda_runtime.h"
#include "observer.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

using Work = std::function<void()>;

struct CUstream_st {
  bool blocking = true;  // waits for the default stream and is waited for by it
  std::deque<Work> queue;
  long put = 0, done = 0;
  CUgraph_st* capture = nullptr;
};
struct CUgraph_st {
  std::vector<Work> nodes;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;
  long position = 0;
  std::shared_ptr<double> seconds = std::make_shared<double>(0);
};

namespace tunas::emulation {
namespace {

constexpr std::size_t kReserved = std::size_t{64} << 30, kAlign = 256, kGap = 256;
constexpr std::size_t kPage = std::size_t{2} << 20;  // opened and closed as wholes, and cheaply so

/// $EMULATED_GPU_MEMORY in MiB: what the device has.
std::size_t device_bytes() {
  const char* text = std::getenv("EMULATED_GPU_MEMORY");
  return text ? std::strtoull(text, nullptr, 10) << 20 : std::size_t{16} << 30;
}

class DeviceMemory {
 public:
  DeviceMemory() {
    void* base =
        mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw std::runtime_error("emulation: no address space");
    base_ = top_ = up(static_cast<char*>(base));
    madvise(base_, kReserved - kPage, MADV_HUGEPAGE);
    observe_device(base_, base_ + kReserved - kPage);
  }
  /// Addresses are never used twice, so that a late access is seen. Null: out of memory.
  char* alloc(std::size_t bytes) {
    if (bytes > available()) return nullptr;
    char* data = top_ + kGap;
    const std::size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
    if (data + size > base_ + kReserved - kPage)
      throw std::runtime_error("emulation: addresses used up");
    top_ = data + size;
    live_[data] = bytes;
    used_ += bytes;
    observe_alloc(data, bytes);
    const Open open(*this);
    std::memset(data, 0xff, bytes);  // NaN
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(data - kGap, kGap);
    ASAN_POISON_MEMORY_REGION(data + bytes, size - bytes);
#endif
    return data;
  }
  bool free(char* data) {
    const auto at = live_.find(data);
    if (at == live_.end()) return false;
    used_ -= at->second;
    observe_free(data);
    const auto next = std::next(at);
    char* begin = up(at == live_.begin() ? base_ : std::prev(at)->first + std::prev(at)->second);
    char* end = next == live_.end() ? top_ : next->first;
    if (end - begin >= static_cast<std::ptrdiff_t>(kPage)) {
      madvise(begin, static_cast<std::size_t>(end - begin) / kPage * kPage, MADV_DONTNEED);
    }
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(data, at->second);
#endif
    live_.erase(at);
    return true;
  }
  bool holds(const void* data) const {
    return data >= static_cast<void*>(base_) && data < static_cast<void*>(base_ + kReserved);
  }
  std::size_t available() const {
    const std::size_t all = device_bytes();
    return all > used_ ? all - used_ : 0;
  }

  /// While one lives, memory can be touched.
  class Open {
   public:
    explicit Open(DeviceMemory& memory) : memory_(&memory) {
      if (memory_->open_++ == 0) memory_->protect(PROT_READ | PROT_WRITE);
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    ~Open() {
      if (--memory_->open_ == 0) memory_->protect(PROT_NONE);
    }

   private:
    DeviceMemory* memory_;
  };

 private:
  void protect(int rights) {
    if (top_ > base_) mprotect(base_, static_cast<std::size_t>(up(top_) - base_), rights);
  }
  static char* up(char* at) {
    return at + (kPage - reinterpret_cast<std::uintptr_t>(at) % kPage) % kPage;
  }

  char *base_, *top_;
  std::map<char*, std::size_t> live_;
  std::size_t used_ = 0;
  int open_ = 0;
};

DeviceMemory& memory() {
  static DeviceMemory device;
  return device;
}

std::set<CUstream_st*>& streams() {
  static std::set<CUstream_st*> all;
  return all;
}
/// First byte and size of what cudaHostAlloc gave; any thread may ask for it.
std::mutex pinned_mutex;
std::map<const char*, std::size_t>& pinned() {
  static std::map<const char*, std::size_t> all;
  return all;
}
bool pageable(const void* data) {
  if (memory().holds(data)) return false;
  const std::lock_guard lock(pinned_mutex);
  auto after = pinned().upper_bound(static_cast<const char*>(data));
  if (after == pinned().begin()) return true;
  --after;
  return static_cast<const char*>(data) >= after->first + after->second;
}

void drain(CUstream_st* stream, long position) {
  const DeviceMemory::Open open(memory());
  while (stream->done < position && !stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    work();
    ++stream->done;
  }
}

void drain_blocking() {
  for (CUstream_st* stream : streams()) {
    if (stream->blocking) drain(stream, stream->put);
  }
}

bool coin() {
  static unsigned state = 1;
  state = state * 1664525u + 1013904223u;
  return state >> 31;
}

void put(CUstream_st* stream, Work work) {
  if (!stream) {  // the default stream: after everything that blocks it, at once
    drain_blocking();
    const DeviceMemory::Open open(memory());
    work();
    return;
  }
  if (stream->capture) {
    stream->capture->nodes.push_back(std::move(work));
    return;
  }
  stream->queue.push_back(std::move(work));
  ++stream->put;
  if (coin()) drain(stream, stream->put);
}

std::string last_report;
cudaError_t sticky = cudaSuccess;

cudaError_t outcome() {
  const std::string problem = take_report();
  if (problem.empty()) return cudaSuccess;
  last_report = problem;
  return sticky = cudaErrorLaunchFailure;
}

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

}  // namespace

cudaError_t enqueue_grid(const cudaLaunchConfig_t& config, std::function<void()> body) {
  put(config.stream, [config, body = std::move(body)] {
    run_grid(config.gridDim, config.blockDim, config.dynamicSmemBytes, body);
  });
  return cudaSuccess;
}

}  // namespace tunas::emulation

using namespace tunas::emulation;  // NOLINT: this file is the runtime

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure:
      return last_report.c_str();
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(sticky, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated on the CPU");
  properties->totalGlobalMem = device_bytes();
  properties->multiProcessorCount = 132;
  properties->major = 9;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *available = memory().available();
  *total = device_bytes();
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = memory().alloc(bytes);
  return *data ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* data) {
  const cudaError_t status = cudaDeviceSynchronize();
  if (data && !memory().free(static_cast<char*>(data))) return cudaErrorInvalidValue;
  return status;
}
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  *data = std::malloc(bytes ? bytes : 1);
  if (!*data) return cudaErrorMemoryAllocation;
  const std::lock_guard lock(pinned_mutex);
  pinned()[static_cast<char*>(*data)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  const std::lock_guard lock(pinned_mutex);
  if (pinned().erase(static_cast<char*>(data)) == 0) return cudaErrorInvalidValue;
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  drain_blocking();
  const DeviceMemory::Open open(memory());
  if (bytes > 0) std::memcpy(to, from, bytes);  // null may come with none
  return outcome();
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  if (pageable(from)) {  // staged before the call returns
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from),
                                                      static_cast<const char*>(from) + bytes);
    put(stream, [to, staged] { std::memcpy(to, staged->data(), staged->size()); });
    return cudaSuccess;
  }
  put(stream, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (pageable(to)) return cudaStreamSynchronize(stream);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  put(stream, [to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  for (CUstream_st* stream : streams()) drain(stream, stream->put);
  return outcome();
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  streams().insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  drain(stream, stream->put);
  streams().erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream) {
    drain(stream, stream->put);
  } else {
    drain_blocking();
  }
  return outcome();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event->stream) return cudaSuccess;
  put(stream, [other = event->stream, position = event->position] {
    if (streams().count(other)) drain(other, position);
  });
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  put(stream, [seconds = event->seconds] { *seconds = now(); });
  event->stream = stream;
  event->position = stream ? stream->put : 0;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->stream && streams().count(event->stream)) drain(event->stream, event->position);
  return outcome();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(1e3 * (*end->seconds - *begin->seconds));
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capture = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capture, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& work : executable->nodes) put(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

tunas::emulation::Traffic tunas::emulation::traffic() {
  cudaDeviceSynchronize();
  return stop_counting();
}
