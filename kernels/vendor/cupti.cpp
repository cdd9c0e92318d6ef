#include "kernels/vendor/cupti.h"

#ifdef TUNAS_CUPTI

#include <cuda_runtime.h>
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "kernels/error.h"

namespace tunas {
namespace {

/// Calls of the runtime and the driver are recorded because only their records carry the number
/// that was pushed; kernels and copies share a second number with the call that launched them.
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET,
                                         CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                         CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_DRIVER};
constexpr CUpti_ExternalCorrelationKind kOurs = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
constexpr std::size_t kBuffer = std::size_t{8} << 20;

struct Activity {
  std::uint32_t correlation;
  std::uint64_t begin, end;  // ns
  std::string name;
};

/// CUPTI hands its buffers to plain functions on a thread of its own.
struct Inbox {
  std::mutex mutex;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  std::vector<Activity> activities;
  std::unordered_map<std::uint32_t, std::uint64_t> calls;  // correlation -> number pushed

  void clear() {
    const std::lock_guard<std::mutex> lock(mutex);
    activities.clear();
    calls.clear();
  }
};

Inbox& inbox() {
  static Inbox the_one;
  return the_one;
}

std::string readable(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name = status == 0 ? text : mangled;
  std::free(text);
  return name;
}

template <class Record>
void keep(const CUpti_Activity* record, std::string name) {
  const auto* r = reinterpret_cast<const Record*>(record);
  inbox().activities.push_back({r->correlationId, r->start, r->end, std::move(name)});
}

void read(const CUpti_Activity* record) {
  if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    keep<CUpti_ActivityKernel10>(record, readable(kernel->name));
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    keep<CUpti_ActivityMemcpy6>(record, "memory copy");
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    keep<CUpti_ActivityMemset4>(record, "memory set");
  } else if (record->kind == CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION) {
    const auto* link = reinterpret_cast<const CUpti_ActivityExternalCorrelation*>(record);
    if (link->externalKind == kOurs) inbox().calls[link->correlationId] = link->externalId;
  }
}

void CUPTIAPI buffer_requested(std::uint8_t** buffer, std::size_t* size, std::size_t* records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, kBuffer));
  *size = *buffer == nullptr ? 0 : kBuffer;
  *records = 0;  // as many as fit
}

void CUPTIAPI buffer_completed(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t,
                               std::size_t valid) {
  {
    const std::lock_guard<std::mutex> lock(inbox().mutex);
    CUpti_Activity* record = nullptr;
    while (valid > 0 && inbox().next_record(buffer, valid, &record) == CUPTI_SUCCESS) read(record);
  }
  std::free(buffer);
}

}  // namespace

struct Cupti::Library {
  void* handle = nullptr;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiGetResultString) describe = nullptr;

  /// Empty, or what is missing.
  std::string load();
  template <class F>
  bool find(const char* name, F& function) {
    function = reinterpret_cast<F>(::dlsym(handle, name));
    return function != nullptr;
  }
  std::string text(CUptiResult result) const {
    const char* words = nullptr;
    return describe(result, &words) == CUPTI_SUCCESS && words != nullptr ? words : "unknown error";
  }
  /// Starts all kinds of records; where one is refused, none, and the answer is not success.
  CUptiResult enable_all() const {
    for (const CUpti_ActivityKind kind : kKinds) {
      const CUptiResult result = enable(kind);
      if (result == CUPTI_SUCCESS) continue;
      disable_all();
      return result;
    }
    return CUPTI_SUCCESS;
  }
  void disable_all() const {
    for (const CUpti_ActivityKind kind : kKinds) disable(kind);
  }
};

std::string Cupti::Library::load() {
  const std::string name = "libcupti.so." + std::to_string(CUDART_VERSION / 1000);
  for (const char* folder : {"", "/usr/local/cuda/lib64/", "/usr/local/cuda/extras/CUPTI/lib64/"}) {
    handle = ::dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) break;
  }
  if (handle == nullptr) return name + " is not installed";
  const bool complete =
      find("cuptiActivityRegisterCallbacks", register_callbacks) &&
      find("cuptiActivityEnable", enable) && find("cuptiActivityDisable", disable) &&
      find("cuptiActivityFlushAll", flush) &&
      find("cuptiActivityPushExternalCorrelationId", push) &&
      find("cuptiActivityPopExternalCorrelationId", pop) &&
      find("cuptiActivityGetNextRecord", next_record) && find("cuptiGetResultString", describe);
  return complete ? "" : name + " lacks a function that CUDA 13 documents";
}

Cupti::Cupti(std::unique_ptr<Library> library) : library_(std::move(library)) {}
// The library stays open: CUPTI cannot be unloaded under a living driver.
Cupti::~Cupti() = default;

std::unique_ptr<Cupti> Cupti::open(std::string& refusal) {
  auto library = std::make_unique<Library>();
  refusal = library->load();
  if (!refusal.empty()) return nullptr;
  inbox().next_record = library->next_record;
  CUptiResult result = library->register_callbacks(buffer_requested, buffer_completed);
  if (result == CUPTI_SUCCESS) result = library->enable_all();
  if (result != CUPTI_SUCCESS) {
    refusal = "CUPTI: " + library->text(result);
    return nullptr;
  }
  library->disable_all();

  // Whether records come, and with the number pushed, is known only once one has come.
  std::unique_ptr<Cupti> cupti(new Cupti(std::move(library)));
  constexpr long kProbe = 7;
  void* word = nullptr;
  bool came = false;
  if (cudaMalloc(&word, 256) == cudaSuccess) {
    cupti->start();
    cupti->push(kProbe);
    cudaMemset(word, 0, 256);
    cupti->pop();
    cudaDeviceSynchronize();
    for (const GpuWork& work : cupti->stop()) came = came || work.call == kProbe;
    cudaFree(word);
  }
  if (came) return cupti;
  refusal = "CUPTI records nothing here";
  return nullptr;
}

void Cupti::start() {
  inbox().clear();
  const CUptiResult result = library_->enable_all();
  require(result == CUPTI_SUCCESS, "CUPTI: ", library_->text(result), "; use --clock events");
}

void Cupti::push(long call) { library_->push(kOurs, static_cast<std::uint64_t>(call)); }

void Cupti::pop() {
  std::uint64_t last = 0;
  library_->pop(kOurs, &last);
}

std::vector<GpuWork> Cupti::stop() {
  library_->flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  library_->disable_all();
  const std::lock_guard<std::mutex> lock(inbox().mutex);
  std::uint64_t first = ~std::uint64_t{0};
  for (const Activity& a : inbox().activities) first = std::min(first, a.begin);
  std::vector<GpuWork> all;
  for (Activity& a : inbox().activities) {
    const auto call = inbox().calls.find(a.correlation);
    all.push_back({call == inbox().calls.end() ? -1 : static_cast<long>(call->second),
                   std::move(a.name), 1e-9 * static_cast<double>(a.begin - first),
                   1e-9 * static_cast<double>(a.end - a.begin)});
  }
  return all;
}

}  // namespace tunas

#else  // the emulation, and toolkits without CUPTI

namespace tunas {

struct Cupti::Library {};
Cupti::Cupti(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Cupti::~Cupti() = default;
std::unique_ptr<Cupti> Cupti::open(std::string& refusal) {
  refusal = "this tunas was built without CUPTI";
  return nullptr;
}
void Cupti::start() {}
void Cupti::push(long) {}
void Cupti::pop() {}
std::vector<GpuWork> Cupti::stop() { return {}; }

}  // namespace tunas

#endif
