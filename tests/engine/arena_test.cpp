// The arena: first fit, coalescing, peak, exhaustion.
#include "engine/arena.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

TEST(Arena, HandsOutTheLowestGapAndJoinsNeighbours) {
  std::vector<char> memory(1024);
  Arena arena(memory.data(), memory.size());
  void* a = arena.alloc(64);
  void* b = arena.alloc(100);  // rounds up to 128
  void* c = arena.alloc(64);
  EXPECT_EQ(a, memory.data());
  EXPECT_EQ(b, memory.data() + 64);
  EXPECT_EQ(c, memory.data() + 192);
  arena.free(a, 64);
  EXPECT_EQ(arena.alloc(64), a);
  arena.free(a, 64);
  arena.free(b, 100);
  EXPECT_EQ(arena.alloc(192), a) << "the two gaps are one";
  EXPECT_EQ(arena.used(), 256u);
  EXPECT_EQ(arena.peak(), 256u);
}

TEST(Arena, FreesInAnyOrderBackToOneGap) {
  for (const std::vector<int>& order : {std::vector<int>{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 0, 3, 1}}) {
    std::vector<char> memory(256);
    Arena arena(memory.data(), memory.size());
    std::vector<void*> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(arena.alloc(64));
    for (const int i : order) arena.free(blocks[static_cast<std::size_t>(i)], 64);
    EXPECT_EQ(arena.used(), 0u);
    EXPECT_EQ(arena.alloc(256), memory.data());
  }
}

TEST(Arena, ExhaustionIsAnErrorOfItsOwn) {
  std::vector<char> memory(128);
  Arena arena(memory.data(), memory.size());
  arena.alloc(64);
  try {
    arena.alloc(65);
    FAIL() << "65 bytes do not fit in 64";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::memory);
  }
}

TEST(Arena, ADryRunMeasuresTheSameAddresses) {
  std::vector<char> memory(4096);
  Arena real(memory.data(), memory.size());
  Arena dry = Arena::dry();
  std::ptrdiff_t shift = static_cast<char*>(real.alloc(10)) - static_cast<char*>(dry.alloc(10));
  void* real_a = real.alloc(640);
  void* dry_a = dry.alloc(640);
  real.free(real_a, 640);
  dry.free(dry_a, 640);
  for (const std::size_t bytes : {200u, 600u, 64u}) {
    EXPECT_EQ(static_cast<char*>(real.alloc(bytes)) - static_cast<char*>(dry.alloc(bytes)), shift);
  }
  EXPECT_EQ(real.peak(), dry.peak());
}

}  // namespace
}  // namespace tunas::engine
