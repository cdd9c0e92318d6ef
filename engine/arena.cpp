#include "engine/arena.h"

#include <algorithm>
#include <cstdint>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

std::size_t rounded(std::size_t bytes) {
  return (bytes + Arena::kAlign - 1) / Arena::kAlign * Arena::kAlign;
}

}  // namespace

Arena::Arena(char* base, std::size_t capacity) : base_(base), capacity_(capacity) {
  gaps_.reserve(256);
  reset();
}

Arena Arena::dry() {
  return Arena(reinterpret_cast<char*>(std::uintptr_t{kAlign}), std::size_t{1} << 50);
}

void Arena::reset() {
  gaps_.assign(1, {0, capacity_});
  used_ = 0;
}

void* Arena::alloc(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  for (std::size_t i = 0; i < gaps_.size(); ++i) {
    Gap& gap = gaps_[i];
    if (gap.end - gap.begin < size) continue;
    char* block = base_ + gap.begin;
    gap.begin += size;
    used_ += size;
    peak_ = std::max(peak_, gap.begin);
    if (gap.begin == gap.end) gaps_.erase(gaps_.begin() + static_cast<long>(i));
    return block;
  }
  fail(Exit::memory, "the arena of ", capacity_ >> 20, " MiB is full (", used_ >> 20,
       " MiB in use, ", bytes >> 10, " KiB asked for); use a smaller --batch-size");
}

void Arena::free(void* block, std::size_t bytes) {
  const std::size_t begin = static_cast<std::size_t>(static_cast<char*>(block) - base_);
  const std::size_t end = begin + rounded(bytes);
  used_ -= end - begin;
  auto after = std::lower_bound(gaps_.begin(), gaps_.end(), begin,
                                [](const Gap& gap, std::size_t at) { return gap.begin < at; });
  const bool joins_after = after != gaps_.end() && after->begin == end;
  const bool joins_before = after != gaps_.begin() && (after - 1)->end == begin;
  if (joins_before && joins_after) {
    (after - 1)->end = after->end;
    gaps_.erase(after);
  } else if (joins_before) {
    (after - 1)->end = end;
  } else if (joins_after) {
    after->begin = begin;
  } else {
    gaps_.insert(after, {begin, end});
  }
}

}  // namespace tunas::engine
