#include "search/results.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace tunas::search {

using engine::Place;

namespace {

constexpr std::uint32_t kNowhere = 0xffffffff;  // beyond all offsets

}  // namespace

double Outcome::accuracy() const {
  if (!std::isfinite(loss)) return std::numeric_limits<double>::quiet_NaN();
  return images > 0 ? static_cast<double>(top1) / images : 0;
}

Results::Results(const engine::Device& device, int images, int logit_row)
    : device_(&device),
      most_(static_cast<std::size_t>(images)),
      logit_row_(static_cast<std::size_t>(logit_row)),
      device_memory_(device.alloc(most_ * row_bytes() + sizeof kNowhere + sizeof examined_)),
      host_verdict_(device.alloc(sizeof examined_, Place::host)),
      nowhere_(device.alloc(sizeof kNowhere, Place::host)) {
  std::memcpy(nowhere_.data(), &kNowhere, sizeof kNowhere);
  device.copy(origin(), nowhere_.data(), sizeof kNowhere);
}

void Results::take(const Tensor& logits) const {
  if (logit_row_ == 0) return;
  device_->copy(this->logits(), logits.data,
                static_cast<std::size_t>(logits.n) * logit_row_ * sizeof(float));
}

void Results::keep(int images) {
  const std::size_t i = images_.size();
  if (i == host_rows_.size()) {
    host_rows_.push_back(device_->alloc(most_ * row_bytes() + sizeof kNowhere, Place::host));
  }
  const auto count = static_cast<std::size_t>(images) * sizeof(float);
  char* to = host_rows_[i].data();
  device_->copy(to, loss(), count);
  device_->copy(to + most_ * sizeof(float), rank(), count);
  if (logit_row_ > 0) device_->copy(to + 2 * most_ * sizeof(float), logits(), count * logit_row_);
  device_->copy(to + most_ * row_bytes(), origin(), sizeof kNowhere);
  device_->copy(origin(), nowhere_.data(), sizeof kNowhere);
  images_.push_back(images);
}

const std::vector<Outcome>& Results::wait() {
  device_->copy(host_verdict_.data(), verdict(), sizeof examined_);
  device_->zero(verdict(), sizeof examined_);
  device_->sync();
  std::memcpy(&examined_, host_verdict_.data(), sizeof examined_);
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
    std::uint32_t origin = 0;
    std::memcpy(&origin, host_rows_[p].data() + most_ * row_bytes(), sizeof origin);
    if (origin != kNowhere) {
      outcome.origin = origin;
      outcome.loss = std::numeric_limits<double>::quiet_NaN();  // whatever activations swallowed
    }
    const float* logits = loss + 2 * most_;
    outcome.logits.assign(logits, logits + static_cast<std::size_t>(outcome.images) * logit_row_);
    outcomes_.push_back(std::move(outcome));
  }
  images_.clear();
  return outcomes_;
}

}  // namespace tunas::search
