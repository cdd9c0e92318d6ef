#include "engine/device.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace tunas::engine {

Memory::Memory(Kind kind, std::size_t bytes) : bytes_(bytes) {
  require(kind == Kind::cpu, "device memory is only available on the CPU in this build");
  if (bytes == 0) return;
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

Device Device::cpu(int threads) {
  Device device;
  device.workspace_ = Memory(Kind::cpu, CpuContext::kWorkspaceBytes);
  device.context_ = std::make_unique<CpuContext>();
  device.context_->threads = threads > 0 ? threads : omp_get_num_procs();
  device.context_->workspace = device.workspace_.data();
  device.context_->workspace_bytes = device.workspace_.bytes();
  device.stream_ = {Kind::cpu, device.context_.get()};
  return device;
}

void Device::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::zero(void* to, std::size_t bytes) const {
  const long kPiece = 1 << 22;
  const long pieces = static_cast<long>((bytes + kPiece - 1) / kPiece);
#pragma omp parallel for num_threads(threads()) schedule(static)
  for (long p = 0; p < pieces; ++p) {
    const std::size_t begin = static_cast<std::size_t>(p) * kPiece;
    std::memset(static_cast<char*>(to) + begin, 0, std::min<std::size_t>(kPiece, bytes - begin));
  }
}

}  // namespace tunas::engine
