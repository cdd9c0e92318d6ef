// Results: what passes found, image by image. Kernels leave it on the device; it comes to the host
// behind them, and one wait serves all passes since the last one.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/device.h"

namespace tunas::search {

/// What a pass over one batch found.
struct Outcome {
  double loss = 0;  // mean cross-entropy, L2 not included
  int images = 0, top1 = 0, top5 = 0;
  std::vector<float> logits;  // [images][row], where they are kept

  double accuracy() const { return images > 0 ? static_cast<double>(top1) / images : 0; }
};

class Results {
 public:
  /// For passes of up to `images` images. `logit_row`: floats of logits to keep of an image, or 0.
  Results(const engine::Device& device, int images, int logit_row);

  /// Where the pass under way leaves the loss and the rank of each image.
  float* loss() const { return reinterpret_cast<float*>(device_memory_.data()); }
  std::int32_t* rank() const { return reinterpret_cast<std::int32_t*>(loss() + most_); }
  /// What updates count; see kernels/update.h.
  std::uint32_t* not_finite() const {
    return reinterpret_cast<std::uint32_t*>(device_memory_.data() + row());
  }

  /// Part of the pass under way: its logits, [n][1][1][logit_row] or more, stay until it is kept.
  void take(const Tensor& logits) const;
  /// The pass is on the stream: its numbers follow it to the host.
  void keep(int images);
  /// Waits. Outcomes of the passes kept since the last wait, in their order.
  const std::vector<Outcome>& wait();
  /// Parameters that updates before the last wait left as they were, their gradient not being
  /// finite.
  std::uint32_t skipped() const { return skipped_; }

 private:
  float* logits() const { return loss() + 2 * most_; }
  std::size_t row() const { return (2 + logit_row_) * most_ * sizeof(float); }

  const engine::Device* device_;
  std::size_t most_, logit_row_;
  engine::Memory device_memory_;           // [loss | rank | logits | not_finite]
  std::vector<engine::Memory> host_rows_;  // [loss | rank | logits], one a pass
  engine::Memory host_count_;
  std::vector<int> images_;
  std::vector<Outcome> outcomes_;
  std::uint32_t skipped_ = 0;
};

}  // namespace tunas::search
