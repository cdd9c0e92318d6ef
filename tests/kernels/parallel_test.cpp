// Every index once, whatever the number of threads, through many short jobs and oversubscription.
#include "kernels/parallel.h"

#include <gtest/gtest.h>

namespace tunas {
namespace {

TEST(Parallel, RunsEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    Workers workers(threads);
    CpuContext context;
    context.threads = threads;
    context.workers = &workers;
    for (int job = 0; job < 3000; ++job) {
      const long count = job % 17;
      std::vector<int> seen(static_cast<std::size_t>(count), 0);
      std::vector<int> slots(static_cast<std::size_t>(count), -1);
      parallel(context, count, [&](long i, int slot) {
        ++seen[static_cast<std::size_t>(i)];
        slots[static_cast<std::size_t>(i)] = slot;
      });
      for (long i = 0; i < count; ++i) {
        ASSERT_EQ(seen[static_cast<std::size_t>(i)], 1) << "index " << i << " of job " << job;
        ASSERT_GE(slots[static_cast<std::size_t>(i)], 0);
        ASSERT_LT(slots[static_cast<std::size_t>(i)], threads);
      }
    }
  }
}

TEST(Parallel, SleepingThreadsWakeAndStop) {
  Workers workers(3);
  CpuContext context;
  context.threads = 3;
  context.workers = &workers;
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<long> sum{0};
    parallel(context, 100, [&](long i, int) { sum += i; });
    EXPECT_EQ(sum, 4950);
  }
}

}  // namespace
}  // namespace tunas
