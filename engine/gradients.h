// Gradients: those of the shards of a step, in the layout of the parameters, and their sum over all
// shards of all ranks.
//
// The sum is one fixed binary tree over the shard index, ((s0+s1)+(s2+s3))+..., in which an odd
// tail rises alone. Rank r of R has the shards [r*S/R, (r+1)*S/R) and adds their subtree as they
// end, each in a buffer of its own; the top of the tree is a sum over ranks (engine/comm.h).
//
// That sum runs beside backward of the rank's last shard. Parameters lie in the order of the
// network, so backward finishes the array from its end; it is cut there into buckets, each summed
// as soon as backward has passed its beginning. Where they are cut follows from the layers' sizes
// alone: the ranks agree, whatever architecture each of them runs.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/comm.h"
#include "engine/device.h"

namespace tunas::engine {

class Gradients {
 public:
  Gradients() = default;
  /// `count` floats a shard, `shards` shards a step over all ranks of `comm`. Both must outlive
  /// this. Error(Exit::usage) where the ranks cannot share the shards evenly.
  Gradients(const Device& device, Comm& comm, std::size_t count, int shards);
  /// Bytes that this takes.
  static std::size_t bytes(std::size_t count, int shards);

  /// Of the shard under way; after the last one, when the sum is finished, the sum.
  float* current() const { return buffer(current_); }

  /// Whether backward of the shard under way starts sums over ranks.
  bool starts_sums() const { return comm_->size() > 1 && last(); }
  /// That backward has finished everything from `offset` on.
  void passed(std::size_t offset);
  /// The shard under way has ended; the next one has another buffer.
  void end_shard();
  /// After the rank's last shard: the sum over ranks is there, for what is put on the device's
  /// stream from now on.
  void finish();

  /// Floats of a bucket, at least.
  static constexpr std::size_t kBucket = std::size_t{1} << 20;

 private:
  float* buffer(std::size_t i) const { return reinterpret_cast<float*>(buffers_[i].data()); }
  bool last() const { return ended_ + 1 == shards_; }
  void sum_from(std::size_t offset);
  std::size_t free_buffer() const;

  const Device* device_ = nullptr;
  Comm* comm_ = &solo();
  std::size_t count_ = 0;
  int shards_ = 1, ended_ = 0;   // of this rank, in this step
  std::vector<Memory> buffers_;  // one current, the others hold or await partial sums
  std::vector<int> partial_;     // buffer that holds the sum of a tree level, kFree: none
  std::size_t current_ = 0;
  std::size_t open_ = 0;  // of the last shard: floats that are not yet being summed
};

}  // namespace tunas::engine
