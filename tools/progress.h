// The status line of a run: steps done and to do, remaining time, speed, the caller's
// own fields, most important first: a narrow terminal shows the beginning of the line.
//   [##........] 120/600  ETA 3m12s  1234 images/s  reward 0.5120  cost 84.10/84.00 ms
// and, where steps wait for images a twentieth of the time or more, how much: `31% loading`.
#pragma once

#include <memory>
#include <string>

#include "tools/terminal.h"

namespace tunas::tools {

/// Seconds of a step, and those of them in which it waited for images.
struct StepTime {
  double seconds = 0, stalled = 0;
};

class Progress {
 public:
  Progress(std::shared_ptr<Terminal> terminal, long steps);

  /// After a step of `images` images; `fields` is called when shown.
  template <class Fields>
  void step(long done, double images, const StepTime& time, const Fields& fields) {
    measure(images, time);
    if (done == steps_) {
      terminal_->finish(line(done, fields()));
    } else if (terminal_->due()) {
      terminal_->status(line(done, fields()));
    }
  }
  double images_per_second() const { return images_per_second_; }
  /// The text for `done` steps.
  std::string line(long done, const std::string& fields) const;

 private:
  void measure(double images, const StepTime& time);

  std::shared_ptr<Terminal> terminal_;
  long steps_;
  double seconds_per_step_ = 0;  // moving averages over about twenty steps
  double images_per_second_ = 0;
  double stalled_per_step_ = 0;
  long measured_ = 0;
};

/// 75 -> "1m15s", 4000 -> "1h06m".
std::string duration(double seconds);

}  // namespace tunas::tools
