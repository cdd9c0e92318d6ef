// Random tensors for tests, from philox; every number is exact in float. Two kinds: `real` numbers
// on a grid of 1/64, so that z = scale*y + shift is exact and kernel and reference agree on which
// side of an activation's corner a value lies; and small `integers`, with which whole convolutions
// are exact in fp32 and must match bit for bit.
#pragma once

#include <cstdlib>
#include <string>

#include "kernels/philox.h"
#include "tests/support/compare.h"

namespace tunas::test {

enum class Numbers : unsigned char { real, integers };

class Generator {
 public:
  explicit Generator(Numbers numbers = Numbers::real) : numbers_(numbers) {
    if (const char* seed = std::getenv("TUNAS_TEST_SEED")) {
      key_.seed = std::strtoull(seed, nullptr, 10);
    }
  }

  Numbers numbers() const { return numbers_; }
  /// For SCOPED_TRACE: how to see a failure again.
  std::string trace() const { return "TUNAS_TEST_SEED=" + std::to_string(key_.seed); }

  double uniform() { return uniform_float(philox(key_, index_++).v[0]); }
  /// Integer in [low, high].
  int integer(int low, int high) {
    return low + static_cast<int>(philox(key_, index_++).v[0] %
                                  static_cast<std::uint32_t>(high - low + 1));
  }

  /// Activations, gradients, weights: the grid in [-3.5, 6.5], which holds every activation's
  /// corners and has no mean of zero, whose error would mean little; or integers in [-2, 2].
  Values tensor(long size) {
    return fill(size, [&] { return real() ? integer(-224, 416) / 64.0 : integer(-2, 2); });
  }
  /// Per-channel factors, gates and coefficients, never zero: multiples of 1/8 up to 2, or 1 and 2.
  Values factors(long size) {
    return fill(size, [&] { return real() ? integer(1, 16) / 8.0 : integer(1, 2); });
  }
  /// Any floats in [low, high), rounded down to integers in integer mode.
  Values between(long size, double low, double high) {
    return fill(size, [&] {
      const double value = low + (high - low) * uniform();
      return real() ? double{static_cast<float>(value)} : static_cast<int>(value);
    });
  }

 private:
  bool real() const { return numbers_ == Numbers::real; }

  template <class Draw>
  Values fill(long size, const Draw& draw) {
    Values values(static_cast<std::size_t>(size));
    for (double& value : values) value = draw();
    return values;
  }

  Numbers numbers_;
  PhiloxKey key_{1, Purpose::test, 0, 0};
  std::uint64_t index_ = 0;
};

}  // namespace tunas::test
