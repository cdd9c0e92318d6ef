// Results: what passes found, image by image. Kernels leave it on the device; it comes to the host
// behind them, and one wait serves all passes since the last one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/device.h"
#include "kernels/update.h"

namespace tunas::search {

/// What a pass over one batch found.
struct Outcome {
  double loss = 0;  // mean cross-entropy, L2 not included; NaN where anything was not finite
  int images = 0, top1 = 0, top5 = 0;
  std::vector<float> logits;  // [images][row], where they are kept
  /// Offset of the first normalisation that was not finite (kernels/norm.h); none: all were.
  std::optional<std::uint32_t> origin;

  /// NaN where the loss is no number.
  double accuracy() const;
};

class Results {
 public:
  /// For passes of up to `images` images. `logit_row`: floats of logits to keep of an image, or 0.
  Results(const engine::Device& device, int images, int logit_row);

  /// Where the pass under way leaves the loss and the rank of each image.
  float* loss() const { return reinterpret_cast<float*>(device_memory_.data()); }
  std::int32_t* rank() const { return reinterpret_cast<std::int32_t*>(loss() + most_); }
  /// Where its normalisations leave what is not finite.
  std::uint32_t* origin() const {
    return reinterpret_cast<std::uint32_t*>(device_memory_.data() + most_ * row_bytes());
  }
  /// Of the gradient that is examined next.
  kernels::Verdict* verdict() const { return reinterpret_cast<kernels::Verdict*>(origin() + 1); }

  /// Part of the pass under way: its logits, [n][1][1][logit_row] or more, stay until it is kept.
  void take(const Tensor& logits) const;
  /// The pass is on the stream: its numbers follow it to the host.
  void keep(int images);
  /// Waits. Outcomes of the passes kept since the last wait, in their order.
  const std::vector<Outcome>& wait();
  /// What had been examined before the last wait; nothing not finite where nothing was.
  const kernels::Verdict& examined() const { return examined_; }

 private:
  float* logits() const { return loss() + 2 * most_; }
  std::size_t row_bytes() const { return (2 + logit_row_) * sizeof(float); }

  const engine::Device* device_;
  std::size_t most_, logit_row_;
  engine::Memory device_memory_;           // [loss | rank | logits | origin | verdict]
  std::vector<engine::Memory> host_rows_;  // [loss | rank | logits | origin], one a pass
  engine::Memory host_verdict_, nowhere_;  // nowhere_: what origin starts with
  std::vector<int> images_;
  std::vector<Outcome> outcomes_;
  kernels::Verdict examined_;
};

}  // namespace tunas::search
