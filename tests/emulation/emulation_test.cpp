// The emulation must be able to fail: kernels broken on purpose (specimens.h) are reported, their
// sound counterparts are not, and traffic counts are what known patterns cost.
//
// Under AddressSanitizer nobody observes accesses: races and uninitialised reads go unseen, what is
// out of bounds ends the program, and nothing is counted.
#include <functional>

#include "kernels/error.h"
#include "tests/cuda/field.h"
#include "tests/emulation/observer.h"
#include "tests/emulation/specimens.h"

namespace tunas::emulation {
namespace {

using testing::Buffer;
using testing::cuda_ok;
using testing::Field;
using testing::gpu;
using testing::Values;

constexpr int kCount = kBlocks * kThreads;

Field floats(int count) { return Field(DType::f32, 1, 1, 1, count); }

/// What is said about a launch; empty: nothing.
std::string said(const std::function<void()>& launch) {
  try {
    launch();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

using Specimen = void (*)(CudaContext&, Is, float*);

/// The sound one passes and writes what it should; the broken one is reported with `what`.
void expect_report(Specimen specimen, const std::string& what, const Values& want) {
  Field out = floats(static_cast<int>(want.size()));
  out.values.assign(want.size(), 0);
  out.upload();
  EXPECT_EQ(said([&] { specimen(gpu(), Is::sound, out.f32()); }), "");
  EXPECT_EQ(out.download(), want);
  const std::string report = said([&] { specimen(gpu(), Is::broken, out.f32()); });
  EXPECT_NE(report.find(what), std::string::npos) << "not reported; said: '" << report << "'";
  EXPECT_EQ(said([&] { specimen(gpu(), Is::sound, out.f32()); }), "") << "after a report";
}

/// Of n values, the i-th is f(i).
template <class F>
Values values(int n, const F& f) {
  Values v;
  for (int i = 0; i < n; ++i) v.push_back(f(i));
  return v;
}
const auto kOne = [](int) { return 1.0; };
const auto kTurned = [](int i) { return kThreads - 1.0 - i; };

#ifndef __SANITIZE_ADDRESS__
TEST(EmulationFinds, SharedMemoryReadBeforeItIsWritten) {
  expect_report(reverse, "uninitialised: read", values(kThreads, kTurned));
  expect_report(half_written, "uninitialised: read", values(kThreads, kOne));
}

TEST(EmulationFinds, SharedMemoryOfTheBlockBefore) {
  expect_report(leftovers, "uninitialised: read", values(kCount, kOne));
}

TEST(EmulationFinds, RacesInSharedMemory) {
  expect_report(reverse_in_place, "race: ", values(kThreads, kTurned));
  expect_report(count, "race: write of 4 bytes of shared memory",
                values(kThreads, [](int) { return kThreads; }));
}

TEST(EmulationFinds, RacesBetweenBlocks) {
  expect_report(block_sums, "race: write of 4 bytes of device memory",
                values(kBlocks, [](int) { return kThreads; }));
  expect_report(neighbours, "race: ", values(kCount, kOne));
}

TEST(EmulationFinds, SharedMemoryBeyondTheLaunch) {
  expect_report(dynamic, "out of bounds: write", values(kThreads, [](int i) { return i; }));
}

TEST(EmulationFinds, DeviceMemoryOutOfBounds) {
  float* data = nullptr;
  cuda_ok(cudaMalloc(&data, 4 * kThreads));
  EXPECT_EQ(said([&] { fill(gpu(), 1, kThreads, data); }), "");
  const std::string out = "out of bounds: write of 4 bytes ";
  EXPECT_NE(said([&] { fill(gpu(), 1, kThreads + 1, data); }).find(out), std::string::npos);
  EXPECT_NE(said([&] { fill(gpu(), 1, 1, data - 1); }).find(out), std::string::npos);
  cuda_ok(cudaFree(data));
  EXPECT_NE(said([&] { fill(gpu(), 1, kThreads, data); }).find(out), std::string::npos) << "freed";
}

/// Order between launches of one stream is no race, and each finds shared memory poisoned.
TEST(EmulationFinds, NothingBetweenLaunches) {
  const Field out = floats(kCount);
  EXPECT_EQ(said([&] {
              for (int i = 0; i < 3; ++i) fill(gpu(), static_cast<float>(i), kCount, out.f32());
            }),
            "");
  EXPECT_EQ(out.download(), values(kCount, [](int) { return 2; }));
  EXPECT_EQ(said([&] { half_written(gpu(), Is::sound, out.f32()); }), "");
  EXPECT_NE(said([&] { half_written(gpu(), Is::broken, out.f32()); }), "");
}
#else
using EmulationFindsDeathTest = ::testing::Test;
TEST(EmulationFindsDeathTest, WhatIsOutOfBounds) {
  float* data = nullptr;
  cuda_ok(cudaMalloc(&data, 4 * kThreads));
  EXPECT_EQ(said([&] { fill(gpu(), 1, kThreads, data); }), "");
  EXPECT_DEATH(fill(gpu(), 1, kThreads + 1, data), "AddressSanitizer");
  EXPECT_DEATH(fill(gpu(), 1, 1, data - 1), "AddressSanitizer");
  EXPECT_DEATH(dynamic(gpu(), Is::broken, data), "AddressSanitizer");
  dynamic(gpu(), Is::sound, data);
  cuda_ok(cudaFree(data));
  EXPECT_DEATH(fill(gpu(), 1, kThreads, data), "AddressSanitizer");
}
#endif

TEST(EmulationFinds, ThreadsThatWaitForEver) {
  expect_report(barrier_in_branch, "wait where the others never come", values(kThreads, kOne));
  expect_report(warp_sum, "wait where the others never come",
                values(kThreads, [](int) { return 32; }));
}

TEST(EmulationFinds, LaunchesThatNoCardTakes) {
  EXPECT_EQ(said([&] { launch_of(gpu(), 1024, 7, 227 * 1024); }), "");
  EXPECT_NE(said([&] { launch_of(gpu(), 1025, 1, 0); }), "");
  EXPECT_NE(said([&] { launch_of(gpu(), 0, 1, 0); }), "");
  EXPECT_NE(said([&] { launch_of(gpu(), 32, 0, 0); }), "");
  EXPECT_NE(said([&] { launch_of(gpu(), 32, 1, 227 * 1024 + 1); }), "");
}

TEST(EmulationFindsDeathTest, AHostThatTouchesDeviceMemory) {
  const Field out = floats(kThreads);
  fill(gpu(), 1, kThreads, out.f32());
  EXPECT_DEATH(out.f32()[0] = 2, "");
  EXPECT_EQ(out.download(), values(kThreads, kOne));
}

/// Two streams and a number on the host that is copied from and to the device.
struct Streams {
  CudaContext compute = gpu();
  cudaStream_t copies = nullptr;
  cudaEvent_t computed = nullptr;
  float* pinned = nullptr;
  Field out = floats(1);

  Streams() {
    compute.synchronise = false;
    cuda_ok(cudaStreamCreateWithFlags(&compute.stream, cudaStreamNonBlocking));
    cuda_ok(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    cuda_ok(cudaEventCreateWithFlags(&computed, cudaEventDisableTiming));
    cuda_ok(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 4, cudaHostAllocDefault));
  }
  ~Streams() {
    cudaFreeHost(pinned);
    cudaEventDestroy(computed);
    cudaStreamDestroy(copies);
    cudaStreamDestroy(compute.stream);
  }
  void send() { cuda_ok(cudaMemcpyAsync(out.f32(), pinned, 4, cudaMemcpyHostToDevice, copies)); }
  void receive() { cuda_ok(cudaMemcpyAsync(pinned, out.f32(), 4, cudaMemcpyDeviceToHost, copies)); }
};

/// How often of kTries `attempt(number)` does not end with that number on the host.
constexpr int kTries = 64;
template <class Attempt>
int failures(Streams& s, const Attempt& attempt) {
  int wrong = 0;
  for (int i = 1; i <= kTries; ++i) {
    attempt(static_cast<float>(i));
    wrong += *s.pinned != static_cast<float>(i);
    cuda_ok(cudaDeviceSynchronize());
  }
  return wrong;
}

TEST(EmulatedStreams, AResultReadBeforeTheStreamIsWaitedFor) {
  Streams s;
  const auto attempt = [&](bool waits) {
    return failures(s, [&](float i) {
      fill(s.compute, i, 1, s.out.f32());
      cuda_ok(cudaStreamSynchronize(s.compute.stream));
      s.receive();
      if (waits) cuda_ok(cudaStreamSynchronize(s.copies));
    });
  };
  EXPECT_EQ(attempt(true), 0);
  EXPECT_GT(attempt(false), kTries / 8);
}

TEST(EmulatedStreams, ACopyThatWaitsForNoEvent) {
  Streams s;
  const auto attempt = [&](bool waits) {
    return failures(s, [&](float i) {
      fill(s.compute, i, 1, s.out.f32());
      cuda_ok(cudaEventRecord(s.computed, s.compute.stream));
      if (waits) cuda_ok(cudaStreamWaitEvent(s.copies, s.computed));
      s.receive();
      cuda_ok(cudaStreamSynchronize(s.copies));
    });
  };
  EXPECT_EQ(attempt(true), 0);
  EXPECT_GT(attempt(false), kTries / 8);
}

TEST(EmulatedStreams, HostMemoryUsedAgainBeforeItWasSent) {
  Streams s;
  const auto attempt = [&](bool waits) {
    return failures(s, [&](float i) {
      *s.pinned = i;
      s.send();
      if (waits) cuda_ok(cudaStreamSynchronize(s.copies));
      *s.pinned = -1;
      s.receive();
      cuda_ok(cudaStreamSynchronize(s.copies));
    });
  };
  EXPECT_EQ(attempt(true), 0);
  EXPECT_GT(attempt(false), kTries / 8);
}

TEST(EmulatedStreams, AGraphRunsWhenItIsLaunched) {
  Streams s;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  fill(s.compute, 1, 1, s.out.f32());
  cuda_ok(cudaStreamBeginCapture(s.compute.stream, cudaStreamCaptureModeThreadLocal));
  fill(s.compute, 2, 1, s.out.f32());
  cuda_ok(cudaStreamEndCapture(s.compute.stream, &graph));
  cuda_ok(cudaGraphInstantiate(&executable, graph));
  EXPECT_EQ(s.out.download(), Values{1});
  for (int i = 0; i < 2; ++i) {
    cuda_ok(cudaGraphLaunch(executable, s.compute.stream));
    EXPECT_EQ(s.out.download(), Values{2});
    fill(s.compute, 3, 1, s.out.f32());
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

TEST(EmulatedMemory, IsLimitedAndPoisoned) {
  const Field out = floats(3);
  for (const double v : out.download()) EXPECT_TRUE(std::isnan(v));
  std::size_t available = 0, total = 0;
  cuda_ok(cudaMemGetInfo(&available, &total));
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, available + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(data, nullptr);
}

#ifndef __SANITIZE_ADDRESS__
Traffic traffic_of(const std::function<void()>& launch) {
  count_traffic();
  launch();
  return traffic();
}

/// Buffers of kCount floats, four times as many to read from.
struct Patterns {
  Field in = Field::channels(4 * kCount + 8, 1), out = floats(4 * kCount);
};

constexpr double kSectors = kCount * 4 / 32, kWarps = kCount / 32;

TEST(EmulatedTraffic, ACoalescedCopyMovesItsBytes) {
  const Patterns p;
  const Traffic t = traffic_of([&] { copy(gpu(), p.in.f32(), 1, 0, p.out.f32()); });
  EXPECT_EQ(t.sectors_read, kSectors);
  EXPECT_EQ(t.sectors_written, kSectors);
  EXPECT_EQ(t.bytes(), 2 * 4 * kCount);
  EXPECT_EQ(t.warp_sectors, 2 * kSectors);
  EXPECT_EQ(t.least_warp_sectors, 2 * kSectors);
  EXPECT_EQ(t.bank_passes, 0);
  const Traffic wide = traffic_of([&] { copy_wide(gpu(), p.in.f32(), p.out.f32()); });
  EXPECT_EQ(wide.bytes(), 4 * t.bytes());
  EXPECT_EQ(wide.warp_sectors, 4 * t.warp_sectors);
  EXPECT_EQ(wide.least_warp_sectors, 4 * t.warp_sectors);
}

TEST(EmulatedTraffic, StridesAndOffsetsTouchMoreSectors) {
  const Patterns p;
  for (const int step : {2, 4}) {
    const Traffic t = traffic_of([&] { copy(gpu(), p.in.f32(), step, 0, p.out.f32()); });
    EXPECT_EQ(t.sectors_read, step * kSectors);
    EXPECT_EQ(t.sectors_written, kSectors);
    EXPECT_EQ(t.warp_sectors, (step + 1) * kSectors);
    EXPECT_EQ(t.least_warp_sectors, 2 * kSectors);
  }
  const Traffic shifted = traffic_of([&] { copy(gpu(), p.in.f32(), 1, 1, p.out.f32()); });
  EXPECT_EQ(shifted.sectors_read, kSectors + kBlocks);  // a block's one more
  EXPECT_EQ(shifted.warp_sectors, 2 * kSectors + kWarps);
}

TEST(EmulatedTraffic, ASectorCountsOnceForEachBlock) {
  const Patterns p;
  const Traffic t = traffic_of([&] { read_again(gpu(), p.in.f32(), p.out.f32()); });
  EXPECT_EQ(t.sectors_read, kBlocks * kThreads * 4 / 32);
  EXPECT_GT(t.warp_sectors, 3 * kSectors);
}

TEST(EmulatedTraffic, BankConflicts) {
  const Patterns p;
  // 32 rows are written and 32 columns read, each by one warp.
  const Traffic bad = traffic_of([&] { transpose(gpu(), 32, p.out.f32()); });
  EXPECT_EQ(bad.bank_passes, 32 + 32 * 32);
  EXPECT_EQ(bad.least_bank_passes, 64);
  const Traffic two = traffic_of([&] { transpose(gpu(), 34, p.out.f32()); });
  EXPECT_EQ(two.bank_passes, 32 + 32 * 2);
  const Traffic good = traffic_of([&] { transpose(gpu(), 33, p.out.f32()); });
  EXPECT_EQ(good.bank_passes, 64);
  EXPECT_EQ(good.least_bank_passes, 64);
  // 512 bytes there and 512 back, 128 a pass.
  const Traffic wide = traffic_of([&] { wide_shared(gpu(), p.out.f32()); });
  EXPECT_EQ(wide.bank_passes, 8);
  EXPECT_EQ(wide.least_bank_passes, 8);
}

TEST(EmulatedTraffic, ScratchMemoryApart) {
  const Patterns p;
  count_traffic(p.out.f32());
  copy(gpu(), p.in.f32(), 1, 0, p.out.f32());
  const Traffic t = traffic();
  EXPECT_EQ(t.sectors_read, kSectors);
  EXPECT_EQ(t.sectors_written, 0);
  EXPECT_EQ(t.scratch_bytes(), 4 * kCount);
}

TEST(EmulatedTraffic, NothingIsCountedUnasked) {
  const Patterns p;
  traffic_of([&] { copy(gpu(), p.in.f32(), 1, 0, p.out.f32()); });
  copy(gpu(), p.in.f32(), 1, 0, p.out.f32());
  EXPECT_EQ(stop_counting().sectors_read, kSectors);
}
#endif

}  // namespace
}  // namespace tunas::emulation
