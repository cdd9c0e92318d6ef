// Ranks whose weights or optimizer state differ in one bit, in processes of their own.
#include "search/replicas.h"

#include <gtest/gtest.h>

#include <bit>
#include <filesystem>

#include "engine/gloo.h"
#include "search/network.h"
#include "tests/engine/processes.h"

namespace tunas::search {
namespace {

constexpr char kMiddle[] = "blocks/1/layers/0/project/kernel";

/// What each of `ranks` ranks says of its replica after `change(rank, network)`.
std::vector<std::string> said(int ranks, const std::function<void(int, Network&)>& change) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("tunas_replicas_" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  engine::Processes processes(ranks, [&](int rank) {
    engine::Gloo comm({rank, ranks, (folder / "rendezvous").string(), 30});
    engine::Device device = engine::Device::cpu(1);
    NetworkConfig config;
    config.supernet.resolution = 16;
    config.supernet.running_averages = true;
    config.train_batch = config.validation_batch = 1;
    Network network(device,
                    Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/tiny.json"),
                    config);
    check_replicas(comm, network.params(), 6);  // nothing is wrong yet
    change(rank, network);
    try {
      check_replicas(comm, network.params(), 7);
    } catch (const Error& error) {
      std::fprintf(stderr, "%d %s", static_cast<int>(error.code()), error.what());
    }
    // Nobody leaves before all have spoken: the others would end by the loss of a peer.
    std::vector<char> all(static_cast<std::size_t>(ranks));
    comm.all_gather("", all.data(), 1);
  });
  std::vector<std::string> all;
  for (int r = 0; r < ranks; ++r) {
    EXPECT_EQ(processes.code(r), 0);
    all.push_back(processes.said(r));
  }
  std::filesystem::remove_all(folder);
  return all;
}

void flip_a_bit(float* number) {
  *number = std::bit_cast<float>(std::bit_cast<std::uint32_t>(*number) ^ 1u);
}

class ReplicasTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  }
};

TEST_F(ReplicasTest, ThatAreTheSameAreSilent) {
  for (const int ranks : {1, 4}) {
    for (const std::string& one : said(ranks, [](int, Network&) {})) EXPECT_EQ(one, "");
  }
}

TEST_F(ReplicasTest, TheFirstParameterAndTheFewAreNamed) {
  const auto all = said(4, [](int rank, Network& network) {
    engine::ParamStore& params = network.params();
    if (rank == 2) flip_a_bit(params.data(params.find("classifier/bias")->weight));
    const engine::Param& middle = *params.find(kMiddle);
    if (rank == 2) flip_a_bit(params.data(middle.weight) + middle.stored() - 1);
  });
  for (const std::string& one : all) {
    EXPECT_EQ(one,
              "6 after step 7 blocks/1/layers/0/project/kernel is another one on rank 2 "
              "than on the other ranks; check the memory of these machines and go on from an "
              "earlier checkpoint");
  }
}

TEST_F(ReplicasTest, TwoRanksHaveNoMajority) {
  const auto all = said(2, [](int rank, Network& network) {
    engine::ParamStore& params = network.params();
    if (rank == 1) flip_a_bit(params.state(1) + params.find(kMiddle)->weight.offset);
  });
  for (const std::string& one : all) {
    EXPECT_NE(one.find(std::string(kMiddle) + " is not the same on ranks 0 and 1;"),
              std::string::npos)
        << one;
  }
}

TEST_F(ReplicasTest, RunningAveragesAreLookedAt) {
  const auto all = said(2, [](int rank, Network& network) {
    engine::ParamStore& params = network.params();
    const char* name = "blocks/2/layers/0/conv_1/norm/variance";
    if (rank == 0) flip_a_bit(params.data(params.find(name)->weight));
  });
  for (const std::string& one : all) {
    EXPECT_NE(one.find("conv_1/norm/variance"), std::string::npos) << one;
  }
}

}  // namespace
}  // namespace tunas::search
