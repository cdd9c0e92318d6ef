// A program built without NCCL: one rank on a GPU.
#include "engine/nccl.h"
#include "kernels/error.h"

namespace tunas::engine {

struct Nccl::Parts {};

Nccl::Nccl(std::unique_ptr<Gloo>, const Device&, Sums) { check_built_in(); }

void Nccl::check_built_in() {
  fail(Exit::usage,
       "several ranks on GPUs need NCCL, which is not built in: install NVIDIA's Debian package "
       "libnccl-dev, then configure and build again, or use --device cpu");
}

Nccl::~Nccl() = default;
int Nccl::rank() const { return 0; }
int Nccl::size() const { return 1; }
void Nccl::all_gather(const void*, void*, std::size_t) {}
void Nccl::broadcast(void*, std::size_t, int) {}
void Nccl::start_sum(float*, std::size_t) {}
void Nccl::finish_sums() {}
bool Nccl::built_in() { return false; }

}  // namespace tunas::engine
