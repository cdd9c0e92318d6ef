// Range: a named stretch of a step. NVIDIA's tools see all of them (NVTX), a stream's observer the
// passes and layers. They nest: step > arch > pass > layer.
#pragma once

#include "kernels/observer.h"
#include "kernels/stream.h"
#include "kernels/vendor/nvtx.h"

namespace tunas::engine {

class Range {
 public:
  /// `name` must outlive the range.
  explicit Range(const char* name) : Range({}, nullptr, name) {}
  /// `level`: what the name is of, as in Range(stream, &Observer::layer, "stem").
  Range(const Stream& stream, const char* Observer::*level, const char* name)
      : observer_(stream.observer), level_(level) {
    nvtx_push(name);
    if (observer_ == nullptr) return;
    outer_ = observer_->*level_;
    observer_->*level_ = name;
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range() {
    if (observer_ != nullptr) observer_->*level_ = outer_;
    nvtx_pop();
  }

 private:
  Observer* observer_;
  const char* Observer::*level_;
  const char* outer_ = nullptr;
};

}  // namespace tunas::engine
