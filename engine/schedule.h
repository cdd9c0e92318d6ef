// Learning-rate curves and warm-up probabilities as pure functions of the step counter before its
// increment (specification, sections 9, 10, 12). Steps are numbered 0 .. steps-1.
#pragma once

#include <cstdint>

namespace tunas::engine {

/// min(1, step/warmup); 1 without warm-up.
double linear_warmup(std::int64_t step, std::int64_t warmup);

/// q(step) = 1 - clamp(step/length, 0, 1); 0 at every step if length is 0.
double linear_decay(std::int64_t step, std::int64_t length);

/// peak*step/warmup, then peak*(1 + cos(pi*(step-warmup)/(steps-warmup)))/2, and 0 from `steps` on.
struct Cosine {
  double peak = 0;
  std::int64_t warmup = 0;
  std::int64_t steps = 1;

  double at(std::int64_t step) const;
};

/// peak*gamma^floor(step/length): torchvision's StepLR, `length` steps an epoch.
struct Staircase {
  double peak = 0;
  double gamma = 1;
  double length = 1;

  double at(std::int64_t step) const;
};

/// 0 before `delay`, then base*10^((step-delay)/max(1, steps-delay)): tenfold at the end.
struct DelayedExponential {
  double base = 0;
  std::int64_t delay = 0;
  std::int64_t steps = 1;

  double at(std::int64_t step) const;
};

/// floor(examples*epochs/batch).
std::int64_t step_count(std::int64_t examples, double epochs, std::int64_t batch);
/// floor(fraction*steps): 0.025 gives the warm-up of the weights, 0.25 the controller's delay.
std::int64_t share_of(double fraction, std::int64_t steps);

/// Published rates grow with the batch: 0.165 (weights) and 0.0003 (controller) per 256 images.
double weight_peak_rate(std::int64_t batch);
double controller_base_rate(std::int64_t batch);

}  // namespace tunas::engine
