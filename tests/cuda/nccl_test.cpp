// NCCL with one rank, which is what one GPU can show: it connects, its sums run on a stream of
// their own beside the device's, and it ends. What several ranks exchange is tested over Gloo
// (tests/engine/comm_test.cpp): the order of it is the same code (engine/sums.h).
#include "engine/nccl.h"

#include "engine/gloo.h"
#include "tests/cuda/device.h"

namespace tunas::testing {
namespace {

using engine::Device;

TEST(Nccl, OneRankSumsAndLeavesEverythingAsItWas) {
  const Device device = Device::cuda();
  constexpr std::size_t kCount = 3'000'001;
  std::vector<float> values(kCount);
  for (std::size_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i % 1000);
  for (const auto sums : {engine::Sums::fixed, engine::Sums::fast}) {
    engine::Nccl comm(nullptr, device, sums);
    ASSERT_EQ(comm.size(), 1);
    const engine::Memory memory = device.alloc(kCount * sizeof(float));
    float* data = reinterpret_cast<float*>(memory.data());
    device.copy(data, values.data(), kCount * sizeof(float));
    comm.start_sum(data, kCount / 2);  // behind the copy
    comm.start_sum(data + kCount / 2, kCount - kCount / 2);
    comm.finish_sums();
    std::vector<float> got(kCount);
    device.copy(got.data(), data, kCount * sizeof(float));
    device.sync();
    EXPECT_TRUE(got == values);
    int mine = 7, all = 0;
    comm.all_gather(&mine, &all, sizeof mine);
    EXPECT_EQ(all, 7);
  }
}

}  // namespace
}  // namespace tunas::testing
