// Memory that notices: floats between two walls of sentinels, and filters stored at their largest
// width with sentinels beyond the active prefix. The sentinel is a NaN of its own bit pattern, so
// both reading it (NaN in a result) and writing it (other bits) show. Fresh memory is all sentinel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"
#include "tests/support/compare.h"

namespace tunas::test {

/// `size` floats, aligned to 64 bytes. The destructor checks the walls.
class Guarded {
 public:
  explicit Guarded(std::size_t size = 0);
  explicit Guarded(const Values& values);
  Guarded(Guarded&& other) noexcept;
  Guarded& operator=(Guarded&&) = delete;
  ~Guarded();

  float* data() const { return data_; }
  /// Null for an empty one: the absent optional argument.
  float* optional() const { return size_ ? data_ : nullptr; }
  std::size_t size() const { return size_; }
  Values values() const;
  /// Whether element i still holds the sentinel.
  bool untouched(std::size_t i) const;
  bool untouched() const;
  /// Fails the test if a wall was written.
  void check_walls() const;

 private:
  std::size_t size_;
  float* base_;
  float* data_;
};

/// A filter [out][k][k][in] (or [k][k][c], with out = {1, 1}) holding `prefix`, the active values
/// in order; everything else in it is sentinel.
class StoredFilter {
 public:
  StoredFilter(Width out, Width in, int k, const Values& prefix);

  Filter view() const { return {memory_.data(), DType::f32, out_, in_, k_}; }
  Values prefix() const;
  bool beyond_untouched() const;

 private:
  template <class Visit>
  void visit(const Visit& each) const;

  Width out_, in_;
  int k_;
  Guarded memory_;
};

/// A CPU stream with its threads and workspace (one for all, NaN or full of old values).
class Cpu {
 public:
  explicit Cpu(int threads = 1, Kernels kernels = Kernels::automatic);
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;
  ~Cpu();
  Stream stream() { return {Kind::cpu, &context_}; }

 private:
  Workers workers_;
  CpuContext context_;
};

}  // namespace tunas::test
