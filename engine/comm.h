// Comm: what the ranks of a run tell each other. Every rank makes the same calls in the same order.
//
//   start_sum(data, n) ... finish_sums()     data[i] <- sum over ranks of data[i], on every rank
//
// Sums run beside what the caller computes meanwhile, in the order they were started. A fixed sum
// adds in one binary tree over the ranks, ((r0+r1)+(r2+r3))+..., so that the top of the tree over
// the shards of a step (engine/gradients.h) is the same wherever it is cut into ranks; a fast one
// adds in whatever order is fastest. A rank sends and receives 2*(R-1)/R*n floats for either.
//
// A peer that is lost ends every other rank with Exit::communication and a sentence that names it
// (engine/heartbeat.h).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace tunas::engine {

/// Seconds since the start.
struct SumSeconds {
  double busy = 0;    // with a sum under way, from the first rank that waits for its peers on
  double waited = 0;  // of them, those in finish_sums(): not hidden beside the caller's work
};

class Comm {
 public:
  Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  virtual ~Comm() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// `bytes` bytes of the host's memory from each rank: all[r*bytes...] are those of rank r.
  virtual void all_gather(const void* mine, void* all, std::size_t bytes) = 0;
  /// `data`, of the host's memory, becomes that of rank `from`.
  virtual void broadcast(void* data, std::size_t bytes, int from) = 0;

  /// Begins a sum over ranks, in place, of the device's memory, behind what is on the device's
  /// stream. `data` must be left alone until finish_sums().
  virtual void start_sum(float* data, std::size_t count) = 0;
  /// All sums started are done, or are so for what is put on the device's stream from now on.
  virtual void finish_sums() = 0;
  /// What sums took of the host's time; none where they take none of it.
  virtual std::optional<SumSeconds> sum_seconds() const { return {}; }
};

/// One rank alone: nothing to tell, nothing opened.
class Solo final : public Comm {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_gather(const void* mine, void* all, std::size_t bytes) override;
  void broadcast(void*, std::size_t, int) override {}
  void start_sum(float*, std::size_t) override {}
  void finish_sums() override {}
};

/// For whatever needs no other.
Comm& solo();

/// "rank 2" or "ranks 1, 3 and 4".
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace tunas::engine
