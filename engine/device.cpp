#include "engine/device.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "kernels/error.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"

namespace tunas::engine {
namespace {

/// Processors this process may use.
int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

Memory::Memory(Kind kind, std::size_t bytes) : bytes_(bytes) {
  require(kind == Kind::cpu, "device memory is only available on the CPU in this build");
  if (bytes == 0) return;
  const auto pages = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES));
  if (bytes / static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) > pages) {
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
  data_ = std::unique_ptr<char, Unmap>(static_cast<char*>(data), Unmap{bytes});
}

void Unmap::operator()(char* data) const { munmap(data, bytes); }

Device::Device() = default;
Device::Device(Device&&) noexcept = default;
Device::~Device() = default;

Device Device::cpu(int threads, Kernels kernels) {
  kernels::cpu::check_available(kernels);
  Device device;
  device.workspace_ = Memory(Kind::cpu, CpuContext::kWorkspaceBytes);
  device.context_ = std::make_unique<CpuContext>();
  const int cores = available_cores();
  device.context_->threads = threads > 0 ? threads : cores;
  if (device.context_->threads > 1) {
    device.workers_ = std::make_unique<Workers>(device.context_->threads);
    device.context_->workers = device.workers_.get();
  }
  device.context_->workspace = device.workspace_.data();
  device.context_->workspace_bytes = device.workspace_.bytes();
  device.context_->kernels = kernels;
  device.stream_ = {Kind::cpu, device.context_.get()};
  return device;
}

void Device::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::zero(void* to, std::size_t bytes) const {
  parallel_pieces(*context_, bytes, std::size_t{1} << 20, [to](std::size_t begin, std::size_t end) {
    std::memset(static_cast<char*>(to) + begin, 0, end - begin);
  });
}

}  // namespace tunas::engine
