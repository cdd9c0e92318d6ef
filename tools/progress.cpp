#include "tools/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tunas::tools {
namespace {

constexpr double kShownStall = 0.05;

}  // namespace

Progress::Progress(std::shared_ptr<Terminal> terminal, long steps)
    : terminal_(std::move(terminal)), steps_(steps) {}

void Progress::measure(double images, const StepTime& time) {
  const double share = 1.0 / static_cast<double>(std::min(++measured_, 20L));
  seconds_per_step_ += share * (time.seconds - seconds_per_step_);
  stalled_per_step_ += share * (time.stalled - stalled_per_step_);
  if (time.seconds > 0) images_per_second_ += share * (images / time.seconds - images_per_second_);
}

std::string Progress::line(long done, const std::string& fields) const {
  constexpr long kWidth = 10;
  const long filled = kWidth * done / std::max(steps_, 1L);
  const std::string all = std::to_string(steps_);
  const double waits = seconds_per_step_ > 0 ? stalled_per_step_ / seconds_per_step_ : 0;
  return fmt::format(
      "[{}{}] {:>{}}/{}  ETA {}  {:.0f} images/s  {}{}", std::string(filled, '#'),
      std::string(kWidth - filled, '.'), done, all.size(), all,
      duration(seconds_per_step_ * static_cast<double>(steps_ - done)), images_per_second_,
      waits < kShownStall ? "" : fmt::format("{:.0f}% loading  ", 100 * waits), fields);
}

std::string duration(double seconds) {
  const long whole = std::lround(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
}

}  // namespace tunas::tools
