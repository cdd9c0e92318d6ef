#include "engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tunas::engine {
namespace {

double ratio(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

}  // namespace

double linear_warmup(std::int64_t step, std::int64_t warmup) {
  return warmup > 0 ? std::min(1.0, ratio(step, warmup)) : 1;
}

double linear_decay(std::int64_t step, std::int64_t length) {
  return length > 0 ? 1 - std::clamp(ratio(step, length), 0.0, 1.0) : 0;
}

double Cosine::at(std::int64_t step) const {
  if (step < warmup) return peak * ratio(step, warmup);
  if (step >= steps) return 0;
  const double done = ratio(step - warmup, steps - warmup);
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

double Staircase::at(std::int64_t step) const {
  return peak * std::pow(gamma, std::floor(static_cast<double>(step) / length));
}

double DelayedExponential::at(std::int64_t step) const {
  if (step < delay) return 0;
  return base * std::pow(10, ratio(step - delay, std::max<std::int64_t>(1, steps - delay)));
}

std::int64_t step_count(std::int64_t examples, double epochs, std::int64_t batch) {
  const double images = static_cast<double>(examples) * epochs;
  return static_cast<std::int64_t>(std::floor(images / static_cast<double>(batch)));
}

std::int64_t share_of(double fraction, std::int64_t steps) {
  return static_cast<std::int64_t>(std::floor(fraction * static_cast<double>(steps)));
}

double weight_peak_rate(std::int64_t batch) { return 0.165 * ratio(batch, 256); }

double controller_base_rate(std::int64_t batch) { return 0.0003 * ratio(batch, 256); }

}  // namespace tunas::engine
