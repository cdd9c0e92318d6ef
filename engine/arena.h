// Arena: activations and gradients live in one reservation taken at start-up; a step allocates
// nothing. Blocks are handed out first-fit from the lowest free offset, so the same sequence of
// calls gives the same addresses, and a dry run of the largest state measures the size to reserve.
#pragma once

#include <cstddef>
#include <vector>

namespace tunas::engine {

class Arena {
 public:
  static constexpr std::size_t kAlign = 64;

  /// Hands out [base, base + capacity). A dry arena has a made-up base that nobody dereferences.
  Arena(char* base, std::size_t capacity);
  static Arena dry();

  /// Error(Exit::memory) when no free block is large enough.
  void* alloc(std::size_t bytes);
  void free(void* block, std::size_t bytes);
  /// Frees everything; keeps the peak.
  void reset();

  std::size_t used() const { return used_; }
  /// Highest end offset ever handed out: what a reservation must hold.
  std::size_t peak() const { return peak_; }

 private:
  struct Gap {
    std::size_t begin, end;
  };
  char* base_;
  std::size_t capacity_;
  std::size_t used_ = 0, peak_ = 0;
  std::vector<Gap> gaps_;  // sorted, never adjacent
};

}  // namespace tunas::engine
