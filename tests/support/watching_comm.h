// A Comm of one process that plays rank 0 of several: its peers send zeros, it notes what is summed
// and whether that was left alone until the sums were finished.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "engine/comm.h"

namespace tunas::engine {

class WatchingComm final : public Comm {
 public:
  explicit WatchingComm(int size) : size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }
  /// Peers say what rank 0 says.
  void all_gather(const void* mine, void* all, std::size_t bytes) override {
    for (int r = 0; r < size_; ++r) {
      std::memcpy(static_cast<char*>(all) + static_cast<std::size_t>(r) * bytes, mine, bytes);
    }
  }
  void broadcast(void*, std::size_t, int) override {}
  void start_sum(float* data, std::size_t count) override {
    sums_.emplace_back(data, count);
    copies_.emplace_back(data, data + count);
  }
  void finish_sums() override {
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      const std::size_t at = sums_.size() - copies_.size() + i;
      left_alone_ =
          left_alone_ && std::equal(copies_[i].begin(), copies_[i].end(), sums_[at].data());
    }
    copies_.clear();
  }

  /// All that were started, in their order.
  const std::vector<std::span<const float>>& sums() const { return sums_; }
  bool left_alone() const { return left_alone_; }

 private:
  int size_;
  std::vector<std::span<const float>> sums_;
  std::vector<std::vector<float>> copies_;  // of those not finished
  bool left_alone_ = true;
};

}  // namespace tunas::engine
