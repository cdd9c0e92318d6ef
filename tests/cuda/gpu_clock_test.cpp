// The clock of a GPU: each call has its work, by events always and by CUPTI where it can be had.
#include "kernels/vendor/gpu_clock.h"

#include "kernels/update.h"
#include "tests/cuda/field.h"

namespace tunas {
namespace {

using testing::cuda_ok;
using testing::gpu;

constexpr int kSize = 1 << 16;

/// Two calls of a kernel, and memory set to zero between them.
std::vector<GpuWork> watch(GpuClock& clock) {
  testing::Field a(DType::f32, 1, 1, 1, kSize), b(DType::f32, 1, 1, 1, kSize);
  const kernels::Add args{kSize, a.f32(), b.f32()};
  cuda_ok(cudaDeviceSynchronize());  // the poison of the fields is not to be seen
  clock.start();
  for (const long call : {0, 1}) {
    clock.begin(call);
    kernels::cuda::add(gpu(), args);
    clock.end();
    if (call == 0) cuda_ok(cudaMemsetAsync(a.f32(), 0, kSize * sizeof(float), gpu().stream));
  }
  return clock.stop();
}

TEST(GpuClock, EventsTimeEachCall) {
  GpuClock clock(gpu().stream, GpuClock::Source::events);
  EXPECT_NE(clock.refusal(), "");
  for (int round = 0; round < 2; ++round) {
    const std::vector<GpuWork> work = watch(clock);
    ASSERT_EQ(work.size(), 2u);
    EXPECT_EQ(work[0].call, 0);
    EXPECT_EQ(work[1].call, 1);
    EXPECT_GT(work[0].seconds, 0);
    EXPECT_GT(work[1].seconds, 0);
    EXPECT_EQ(work[0].begin, 0);
    EXPECT_GT(work[1].begin, 0.5 * work[0].seconds);
  }
}

TEST(GpuClock, CuptiFilesEachKernelUnderItsCall) {
  GpuClock clock(gpu().stream, GpuClock::Source::automatic);
  if (!clock.refusal().empty()) GTEST_SKIP() << clock.refusal();
  for (int round = 0; round < 2; ++round) {
    int kernels[2] = {}, others = 0;
    double end = 0;
    for (const GpuWork& work : watch(clock)) {
      EXPECT_GT(work.seconds, 0) << work.name;
      EXPECT_GE(work.begin, end - 1e-7) << work.name << ": one stream runs one thing at a time";
      end = work.begin + work.seconds;
      if (work.call < 0) {
        ++others;
        EXPECT_EQ(work.name, "memory set");
      } else {
        ASSERT_LT(work.call, 2);
        ++kernels[work.call];
        EXPECT_NE(work.name.find("update_kernel"), std::string::npos) << work.name;
      }
    }
    EXPECT_EQ(kernels[0], 1);
    EXPECT_EQ(kernels[1], 1);
    EXPECT_EQ(others, 1);
  }
}

}  // namespace
}  // namespace tunas
