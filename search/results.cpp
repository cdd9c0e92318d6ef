#include "search/results.h"

#include <utility>

namespace tunas::search {

using engine::Place;

Results::Results(const engine::Device& device, int images, int logit_row)
    : device_(&device),
      most_(static_cast<std::size_t>(images)),
      logit_row_(static_cast<std::size_t>(logit_row)),
      device_memory_(device.alloc(row() + sizeof(std::uint32_t))),
      host_count_(device.alloc(sizeof(std::uint32_t), Place::host)) {}

void Results::take(const Tensor& logits) const {
  if (logit_row_ == 0) return;
  device_->copy(this->logits(), logits.data,
                static_cast<std::size_t>(logits.n) * logit_row_ * sizeof(float));
}

void Results::keep(int images) {
  const std::size_t i = images_.size();
  if (i == host_rows_.size()) host_rows_.push_back(device_->alloc(row(), Place::host));
  const auto count = static_cast<std::size_t>(images) * sizeof(float);
  char* to = host_rows_[i].data();
  device_->copy(to, loss(), count);
  device_->copy(to + most_ * sizeof(float), rank(), count);
  if (logit_row_ > 0) device_->copy(to + 2 * most_ * sizeof(float), logits(), count * logit_row_);
  images_.push_back(images);
}

const std::vector<Outcome>& Results::wait() {
  device_->copy(host_count_.data(), not_finite(), sizeof(std::uint32_t));
  device_->zero(not_finite(), sizeof(std::uint32_t));
  device_->sync();
  skipped_ = *reinterpret_cast<const std::uint32_t*>(host_count_.data());
  outcomes_.clear();
  for (std::size_t p = 0; p < images_.size(); ++p) {
    const auto* loss = reinterpret_cast<const float*>(host_rows_[p].data());
    const auto* rank = reinterpret_cast<const std::int32_t*>(loss + most_);
    Outcome outcome;
    outcome.images = images_[p];
    for (int i = 0; i < outcome.images; ++i) {
      outcome.loss += loss[i] / outcome.images;
      outcome.top1 += rank[i] < 1;
      outcome.top5 += rank[i] < 5;
    }
    const float* logits = loss + 2 * most_;
    outcome.logits.assign(logits, logits + static_cast<std::size_t>(outcome.images) * logit_row_);
    outcomes_.push_back(std::move(outcome));
  }
  images_.clear();
  return outcomes_;
}

}  // namespace tunas::search
