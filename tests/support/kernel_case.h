// The checks that every kernel passes, written once. A Case is built from (Generator&, Problem),
// holds its inputs as values and offers, for kernels with a backward pass,
//
//   Results forward(Stream) const;   Results forward_reference() const;
//   Results backward(Stream) const;  Results backward_reference() const;
//
// the first of each pair running the kernel in fresh guarded memory.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/memory.h"
#include "tests/support/problems.h"
#include "tests/support/random.h"

namespace tunas::test {

#ifdef TUNAS_ONEDNN
inline constexpr bool kHasLibrary = true;
#else
inline constexpr bool kHasLibrary = false;
#endif

/// The same checks on the library's twin of a kernel.
#define TUNAS_TEST_LIBRARY(Suite, Name, check)                \
  TEST_P(Suite, Name) {                                       \
    if (!kHasLibrary) GTEST_SKIP() << "built without oneDNN"; \
    check(GetParam(), Kernels::library);                      \
  }                                                           \
  static_assert(true)

/// Against the double reference, on real numbers.
template <class Case>
void check_real(const Problem& problem, Kernels kernels = Kernels::automatic) {
  Generator random(Numbers::real);
  SCOPED_TRACE(problem.text + " " + random.trace());
  const Case c(random, problem);
  Cpu cpu(2, kernels);
  {
    SCOPED_TRACE("forward");
    expect_close(c.forward(cpu.stream()), c.forward_reference());
  }
  SCOPED_TRACE("backward");
  expect_close(c.backward(cpu.stream()), c.backward_reference());
}

/// Bit for bit, on small integers, whose sums are exact in fp32 in any order.
template <class Case>
void check_exact(const Problem& problem) {
  Generator random(Numbers::integers);
  SCOPED_TRACE(problem.text + " " + random.trace());
  const Case c(random, problem);
  Cpu cpu(2);
  {
    SCOPED_TRACE("forward");
    expect_equal(c.forward(cpu.stream()), c.forward_reference());
  }
  SCOPED_TRACE("backward");
  expect_equal(c.backward(cpu.stream()), c.backward_reference());
}

/// 1, 2 and 3 threads leave the same bits.
template <class Case>
void check_threads(const Problem& problem, Kernels kernels = Kernels::automatic) {
  Generator random(Numbers::real);
  SCOPED_TRACE(problem.text + " " + random.trace());
  const Case c(random, problem);
  Cpu one(1, kernels);
  const Results forward = c.forward(one.stream());
  const Results backward = c.backward(one.stream());
  for (int threads : {2, 3}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    Cpu cpu(threads, kernels);
    expect_same_bits(c.forward(cpu.stream()), forward);
    expect_same_bits(c.backward(cpu.stream()), backward);
  }
}

/// A dry stream counts the call, adds a cost and writes nothing.
template <class Args, class Call>
Cost dry_cost(const Args& args, const Call& call) {
  Tally tally;
  call(Stream{Kind::dry, &tally}, args);
  EXPECT_EQ(tally.calls, 1);
  return tally.cost;
}

/// The cost is at least the floor that the header declares, and exceeds it by no more than the
/// `weights` (bytes), twice, and a tenth; flops by at most a half.
inline void expect_floor(const Cost& cost, const Cost& floor, double weights = 0) {
  EXPECT_GE(cost.flops, floor.flops);
  EXPECT_LE(cost.flops, 1.5 * floor.flops);
  EXPECT_GE(cost.bytes_read, floor.bytes_read);
  EXPECT_LE(cost.bytes_read, 1.1 * floor.bytes_read + 2 * weights);
  EXPECT_GE(cost.bytes_written, floor.bytes_written);
  EXPECT_LE(cost.bytes_written, 1.1 * floor.bytes_written + 2 * weights);
}

inline std::vector<Problem> problems(std::initializer_list<const char*> texts) {
  std::vector<Problem> result;
  for (const char* text : texts) result.push_back(Problem::parse(text));
  return result;
}

}  // namespace tunas::test
