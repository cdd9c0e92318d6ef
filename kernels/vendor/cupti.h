// CUPTI, NVIDIA's profiling library: records of what the GPU ran. It is opened when a profile asks
// for it, so that the program runs without it; one user in a process at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/vendor/gpu_clock.h"

namespace tunas {

class Cupti {
 public:
  /// Null where it is refused; `refusal` then says why, in one line.
  static std::unique_ptr<Cupti> open(std::string& refusal);
  Cupti(const Cupti&) = delete;
  Cupti& operator=(const Cupti&) = delete;
  ~Cupti();

  void start();
  /// Between the two, what this thread launches belongs to `call`.
  void push(long call);
  void pop();
  /// What ran since start(), times in seconds since the first of it. The GPU must be idle.
  std::vector<GpuWork> stop();

 private:
  struct Library;
  explicit Cupti(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace tunas
