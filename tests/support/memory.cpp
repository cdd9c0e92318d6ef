#include "tests/support/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <new>
#include <utility>

namespace tunas::test {
namespace {

constexpr std::uint32_t kSentinel = 0x7fc0dead;
constexpr std::size_t kWall = 16;  // floats
constexpr std::align_val_t kAlignment{64};

bool is_sentinel(float value) { return std::bit_cast<std::uint32_t>(value) == kSentinel; }

const Guarded& workspace() {
  static const auto* memory = new Guarded(CpuContext::kWorkspaceBytes / sizeof(float));
  return *memory;  // never freed: a wall must be checked inside a test, not after the last one
}

}  // namespace

Guarded::Guarded(std::size_t size)
    : size_(size),
      base_(static_cast<float*>(::operator new((size + 2 * kWall) * sizeof(float), kAlignment))),
      data_(base_ + kWall) {
  std::fill(base_, base_ + size + 2 * kWall, std::bit_cast<float>(kSentinel));
}

Guarded::Guarded(const Values& values) : Guarded(values.size()) {
  std::transform(values.begin(), values.end(), data_,
                 [](double value) { return static_cast<float>(value); });
}

Guarded::Guarded(Guarded&& other) noexcept
    : size_(std::exchange(other.size_, 0)),
      base_(std::exchange(other.base_, nullptr)),
      data_(std::exchange(other.data_, nullptr)) {}

Guarded::~Guarded() {
  if (!base_) return;
  check_walls();
  ::operator delete(base_, kAlignment);
}

void Guarded::check_walls() const {
  EXPECT_TRUE(std::all_of(base_, data_, is_sentinel)) << "memory before a tensor was written";
  EXPECT_TRUE(std::all_of(data_ + size_, data_ + size_ + kWall, is_sentinel))
      << "memory behind a tensor of " << size_ << " floats was written";
}

Values Guarded::values() const { return Values(data_, data_ + size_); }

bool Guarded::untouched(std::size_t i) const { return is_sentinel(data_[i]); }

bool Guarded::untouched() const { return std::all_of(data_, data_ + size_, is_sentinel); }

StoredFilter::StoredFilter(Width out, Width in, int k, const Values& prefix)
    : out_(out), in_(in), k_(k), memory_(static_cast<std::size_t>(out.max) * k * k * in.max) {
  std::size_t next = 0;
  visit([&](std::size_t i, bool active) {
    if (active) memory_.data()[i] = static_cast<float>(prefix.at(next++));
  });
  EXPECT_EQ(next, prefix.size());
}

template <class Visit>
void StoredFilter::visit(const Visit& each) const {
  std::size_t i = 0;
  for (int o = 0; o < out_.max; ++o) {
    for (int tap = 0; tap < k_ * k_; ++tap) {
      for (int c = 0; c < in_.max; ++c) each(i++, o < out_.now && c < in_.now);
    }
  }
}

Values StoredFilter::prefix() const {
  Values values;
  visit([&](std::size_t i, bool active) {
    if (active) values.push_back(memory_.data()[i]);
  });
  return values;
}

bool StoredFilter::beyond_untouched() const {
  bool untouched = true;
  visit([&](std::size_t i, bool active) { untouched &= active || memory_.untouched(i); });
  return untouched;
}

Cpu::Cpu(int threads, Kernels kernels)
    : workers_(threads),
      context_{threads, &workers_, reinterpret_cast<char*>(workspace().data()),
               CpuContext::kWorkspaceBytes, kernels} {}

Cpu::~Cpu() { workspace().check_walls(); }

}  // namespace tunas::test
