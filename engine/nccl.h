// NCCL: ranks on GPUs. Sums of device memory run on a stream of their own, behind what the device's
// stream held when they were started; finish_sums() lets the device's stream wait for them, not the
// host. Messages of the host's memory go over Gloo, which also hands over NCCL's identity and
// watches the peers: the process ends when one is lost, whatever its GPU waits for.
//
// A fixed sum sends and receives halves in the tree of engine/sums.h and adds with kernels::add; a
// fast one is NCCL's own.
#pragma once

#include <memory>

#include "engine/comm.h"
#include "engine/device.h"
#include "engine/gloo.h"

namespace tunas::engine {

class Nccl final : public Comm {
 public:
  /// `messages`: between the ranks; null: one rank alone. The device must outlive this.
  /// Error(Exit::communication) where the GPUs of the ranks do not find each other; otherwise as
  /// check_built_in.
  Nccl(std::unique_ptr<Gloo> messages, const Device& device, Sums sums);
  ~Nccl() override;

  int rank() const override;
  int size() const override;
  void all_gather(const void* mine, void* all, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int from) override;
  void start_sum(float* data, std::size_t count) override;
  void finish_sums() override;

  static bool built_in();
  /// Error(Exit::usage) where it is not, which says how to get it.
  static void check_built_in();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace tunas::engine
