#include "engine/device.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda_context.h"
#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"
#include "kernels/runtime.h"
#include "kernels/vendor/libraries.h"

namespace tunas::engine {

namespace cuda = kernels::cuda;

namespace {

std::size_t physical_memory() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Memory Memory::pages(std::size_t bytes) {
  if (bytes > physical_memory()) {
    fail(Exit::memory, "this needs ", bytes >> 20,
         " MiB, more than the machine has; use a smaller ",
         "--batch-size or --resolution, or more --shards");
  }
  // Anonymous pages: zeroed, page aligned, and only those that are touched cost memory.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(Exit::memory, "out of memory asking for ", bytes >> 20,
         " MiB; use a smaller --batch-size or --resolution");
  }
  madvise(data, bytes, MADV_HUGEPAGE);  // a hint: fewer TLB misses where the kernel agrees
  return {static_cast<char*>(data), {Kind::cpu, Place::host, bytes}};
}

namespace {

bool asked_to_synchronise() {
  const char* value = std::getenv("TUNAS_SYNC");
  return value != nullptr && std::string(value) == "1";
}

}  // namespace

void ReturnMemory::operator()(char* data) const {
  if (kind == Kind::cpu) {
    munmap(data, bytes);
  } else {
    place == Place::device ? cuda::release(data) : cuda::release_pinned(data);
  }
}

struct Device::Cpu {
  Memory workspace;
  std::unique_ptr<Workers> workers;
  CpuContext context;
};

struct Device::Gpu {
  int index = 0;
  DType type = DType::bf16;
  cuda::Gpu about;
  cuda::OwnedStream stream;
  Memory workspace;
#ifdef TUNAS_CUDA_LIBRARIES
  OwnedCudaLibraries libraries;
#endif
  CudaContext context;
};

Device::Device() = default;
Device::Device(Device&&) noexcept = default;
Device::~Device() = default;

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

Device Device::cpu(int threads, Kernels kernels) {
  kernels::cpu::check_available(kernels);
  Device device;
  device.cpu_ = std::make_unique<Cpu>();
  Cpu& cpu = *device.cpu_;
  const int cores = available_cores();
  cpu.context.threads = threads > 0 ? threads : cores;
  if (cpu.context.threads > 1) {
    cpu.workers = std::make_unique<Workers>(cpu.context.threads);
    cpu.context.workers = cpu.workers.get();
  }
  cpu.workspace = device.alloc(CpuContext::kWorkspaceBytes);
  cpu.context.workspace = cpu.workspace.data();
  cpu.context.workspace_bytes = cpu.workspace.bytes();
  cpu.context.kernels = kernels;
  return device;
}

int Device::gpus(std::string& why) { return cuda::count_gpus(why); }

Device Device::cuda(DType type, Kernels kernels, int index) {
  std::string why;
  const int count = gpus(why);
  require(count > 0, "--device cuda: ", why, "; use --device cpu");
  require(index >= 0 && index < count, "there is no GPU number ", index, "; there are ", count);
  cuda::check_available(kernels);
  Device device;
  device.gpu_ = std::make_unique<Gpu>();
  Gpu& gpu = *device.gpu_;
  gpu.index = index;
  gpu.type = type;
  gpu.about = cuda::describe_gpu(index);
  gpu.stream = cuda::make_stream();
  gpu.context.stream = gpu.stream.get();
  gpu.context.multiprocessors = gpu.about.multiprocessors;
  gpu.context.kernels = kernels;
  gpu.context.synchronise = asked_to_synchronise();
  gpu.workspace = device.alloc(CudaContext::kWorkspaceBytes);
  gpu.context.workspace = gpu.workspace.data();
  gpu.context.workspace_bytes = gpu.workspace.bytes();
#ifdef TUNAS_CUDA_LIBRARIES
  if (kernels == Kernels::library) {
    gpu.libraries = make_cuda_libraries(gpu.context.stream);
    gpu.context.libraries = gpu.libraries.get();
  }
#endif
  return device;
}

Kind Device::kind() const { return cpu_ ? Kind::cpu : Kind::cuda; }

Stream Device::stream() const {
  if (cpu_) return {Kind::cpu, &cpu_->context, observer_};
  return {Kind::cuda, &gpu_->context, observer_};
}

int Device::threads() const { return cpu_ ? cpu_->context.threads : 1; }
DType Device::activation_type() const { return cpu_ ? DType::f32 : gpu_->type; }

std::string Device::name() const {
  if (gpu_) return gpu_->about.name;
  return std::to_string(threads()) + (threads() == 1 ? " thread" : " threads");
}

Memory Device::alloc(std::size_t bytes, Place place) const {
  if (bytes == 0) return {};
  if (cpu_) return Memory::pages(bytes);
  cuda::use_gpu(gpu_->index);  // the caller may be a thread that has not chosen yet
  if (place == Place::device) {
    return {static_cast<char*>(cuda::allocate(bytes, gpu_->context.stream)),
            {Kind::cuda, place, bytes}};
  }
  Memory memory(static_cast<char*>(cuda::allocate_pinned(bytes)), {Kind::cuda, place, bytes});
  std::memset(memory.data(), 0, bytes);
  return memory;
}

std::size_t Device::available() const {
  return cpu_ ? physical_memory() : cuda::describe_gpu(gpu_->index).free_bytes;
}

void Device::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  if (cpu_) {
    std::memcpy(to, from, bytes);
  } else {
    cuda::copy(gpu_->context.stream, to, from, bytes);
  }
}

void Device::zero(void* to, std::size_t bytes) const {
  if (cpu_) {
    parallel_pieces(cpu_->context, bytes, std::size_t{1} << 20,
                    [to](std::size_t begin, std::size_t end) {
                      std::memset(static_cast<char*>(to) + begin, 0, end - begin);
                    });
  } else {
    cuda::zero(gpu_->context.stream, to, bytes);
  }
}

void Device::fill(float* to, std::size_t count, float value) const {
  if (value == 0) return zero(to, count * sizeof(float));
  std::array<float, 4096> some;
  some.fill(value);
  for (std::size_t i = 0; i < count; i += some.size()) {
    copy(to + i, some.data(), std::min(some.size(), count - i) * sizeof(float));
  }
}

void Device::sync() const {
  if (gpu_) cuda::wait(gpu_->context.stream);
}

}  // namespace tunas::engine
