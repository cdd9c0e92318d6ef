#include "engine/gradients.h"

#include <algorithm>

#include "kernels/error.h"
#include "kernels/update.h"

namespace tunas::engine {
namespace {

constexpr int kFree = -1;

/// Partial sums that can wait at the same time.
int tree_levels(int shards) {
  int levels = 0;
  while ((2 << levels) <= shards) ++levels;
  if (shards > (1 << levels)) ++levels;
  return levels;
}

}  // namespace

Gradients::Gradients(const Device& device, Comm& comm, std::size_t count, int shards)
    : device_(&device), comm_(&comm), count_(count), shards_(shards / comm.size()), open_(count) {
  require(shards % comm.size() == 0, shards, " shards cannot be spread evenly over ", comm.size(),
          " ranks; use --shards ", (shards / comm.size() + 1) * comm.size(),
          " or another number of ranks");
  const int levels = tree_levels(shards_);
  for (int i = 0; i < levels + 1; ++i) buffers_.push_back(device.alloc(count * sizeof(float)));
  partial_.assign(static_cast<std::size_t>(levels), kFree);
}

std::size_t Gradients::bytes(std::size_t count, int shards) {
  return static_cast<std::size_t>(tree_levels(shards) + 1) * count * sizeof(float);
}

void Gradients::passed(std::size_t offset) {
  if (starts_sums() && open_ - offset >= kBucket) sum_from(offset);
}

/// [offset, open_) of the last shard joins what waits of the earlier ones, and goes to the ranks.
void Gradients::sum_from(std::size_t offset) {
  const std::size_t count = open_ - offset;
  for (const int waiting : partial_) {
    if (waiting == kFree) continue;  // an odd tail rises alone
    const float* sum = buffer(static_cast<std::size_t>(waiting)) + offset;
    kernels::add(device_->stream(), {count, current() + offset, sum});
  }
  comm_->start_sum(current() + offset, count);
  open_ = offset;
}

void Gradients::end_shard() {
  if (last()) {
    sum_from(0);
    std::fill(partial_.begin(), partial_.end(), kFree);
    open_ = count_;
    ended_ = 0;
    return;
  }
  for (std::size_t level = 0; level < partial_.size(); ++level) {
    int& waiting = partial_[level];
    if ((ended_ >> level & 1) == 0) {  // the left half of this node
      waiting = static_cast<int>(current_);
      break;
    }
    const float* sum = buffer(static_cast<std::size_t>(waiting));
    kernels::add(device_->stream(), {count_, current(), sum});
    waiting = kFree;
  }
  current_ = free_buffer();
  ++ended_;
}

void Gradients::finish() { comm_->finish_sums(); }

std::size_t Gradients::free_buffer() const {
  std::size_t b = 0;  // there is one more than can wait
  while (std::find(partial_.begin(), partial_.end(), static_cast<int>(b)) != partial_.end()) ++b;
  return b;
}

}  // namespace tunas::engine
