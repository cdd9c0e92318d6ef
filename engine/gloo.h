// Gloo: ranks on CPUs, over TCP. Messages are sent by the caller's thread, sums by one thread of
// their own in the order they were started, so that they run beside what the caller computes.
//
// The ranks meet in files (engine/rendezvous.h) and are watched (engine/heartbeat.h): a peer that
// is lost ends the process, so messages and sums wait for a slow peer as long as it lives. The
// machine's address is that of its host name, or of the network interface GLOO_SOCKET_IFNAME.
// SIGPIPE is ignored from then on: a broken connection must leave the last word to the heartbeat.
#pragma once

#include <memory>
#include <string>

#include "engine/comm.h"
#include "engine/sums.h"

namespace tunas::engine {

struct GlooSetting {
  int rank = 0;
  int size = 1;
  std::string folder;    // of the rendezvous
  double timeout = 120;  // seconds: for all to come, and for one to be silent
  Sums sums = Sums::fixed;
};

class Gloo final : public Comm {
 public:
  /// Returns when all ranks are connected. Error(Exit::communication) naming those that do not
  /// come; Error(Exit::usage) where Gloo is not built in, or the ranks cannot add so.
  explicit Gloo(const GlooSetting& setting);
  ~Gloo() override;

  int rank() const override;
  int size() const override;
  void all_gather(const void* mine, void* all, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int from) override;
  void start_sum(float* data, std::size_t count) override;
  void finish_sums() override;
  std::optional<SumSeconds> sum_seconds() const override;

  /// For another transport that a peer has left: as Heartbeat's.
  void await_verdict() const;

  static bool built_in();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace tunas::engine
