// One search: the order of its reports, the rule that reads off the architecture, what it refuses.
#include "search/searcher.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::search {
namespace {

constexpr int kResolution = 16, kBatch = 4;

class SearcherTest : public testing::Test {
 protected:
  SearcherTest() {
    config_.network.supernet.resolution = kResolution;
    config_.network.train_batch = kBatch;
    config_.network.validation_batch = 2 * kBatch;
    config_.network.shards = 2;
    config_.steps = 20;
    config_.learning_rate = 0.01;
    config_.controller_rate = 0.1;  // the likeliest options change until the end
    config_.delay = config_.op_warmup = config_.filter_warmup = 0.1;
    config_.reward.target = 2e5;
  }

  Searcher searcher() { return {device_, space_, cost_, config_}; }
  SearchReport step(Searcher& searcher) {
    return searcher.step([this]() -> const Batch& { return train_.batch; },
                         [this]() -> const Batch& { return held_out_.batch; });
  }

  engine::Device device_ = engine::Device::cpu(2);
  Space space_ = Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/tiny.json");
  CostModel cost_ = CostModel::macs(space_, kResolution);
  SearchConfig config_;
  SyntheticBatch train_{kBatch, kResolution, 10}, held_out_{2 * kBatch, kResolution, 10, 2};
};

TEST_F(SearcherTest, ReadsTheArchitectureOffAfterTheLastStep) {
  Searcher searcher = this->searcher();
  while (!searcher.done()) {
    EXPECT_EQ(searcher.best(), searcher.controller().most_likely());
    step(searcher);
  }
  EXPECT_EQ(searcher.best(), searcher.controller().most_likely());
}

TEST_F(SearcherTest, OrBeforeTheUpdateOfTheLastLoggedStep) {
  config_.read_every = 7;
  Searcher searcher = this->searcher();
  Arch logged;
  while (!searcher.done()) {
    if (searcher.step_number() % 7 == 0) logged = searcher.controller().most_likely();
    step(searcher);
    EXPECT_EQ(searcher.best(), logged) << "after step " << searcher.step_number() - 1;
  }
  EXPECT_NE(searcher.best(), searcher.controller().most_likely()) << "else nothing was tested";
}

TEST_F(SearcherTest, ReportsAStepAsMeansOverShards) {
  Searcher searcher = this->searcher();
  const Controller before = searcher.controller();
  const SearchReport first = step(searcher);
  EXPECT_EQ(first.step, 0);
  EXPECT_EQ(first.images, 2 * (kBatch + 2 * kBatch));
  EXPECT_EQ(first.op_warmup, 1);
  EXPECT_EQ(first.filter_warmup, 1);
  EXPECT_EQ(first.controller_rate, 0) << "delayed";
  double cost = 0;
  for (std::uint32_t shard : {0u, 1u}) cost += cost_.cost(before.sample(0, 0, shard, {1, 1}).arch);
  EXPECT_DOUBLE_EQ(first.cost, cost / 2);
  EXPECT_DOUBLE_EQ(first.baseline, first.reward) << "the first mean is its own baseline";
  step(searcher);
  EXPECT_EQ(searcher.controller().state().logits, before.state().logits) << "still delayed";
  const SearchReport third = step(searcher);
  EXPECT_EQ(third.op_warmup, 0);
  EXPECT_GT(third.controller_rate, 0);
  EXPECT_NE(searcher.controller().state().logits, before.state().logits);
}

TEST_F(SearcherTest, RefusesWarmupBeyondTheDelay) {
  config_.op_warmup = 0.2;
  EXPECT_THROW(searcher(), Error);
}

TEST_F(SearcherTest, StopsWhenTheLossIsNotFinite) {
  config_.learning_rate = 1e30;
  config_.rate_warmup = 0;
  Searcher searcher = this->searcher();
  try {
    for (int i = 0; i < 2 * NotFiniteStreak::kMost; ++i) step(searcher);
    ADD_FAILURE() << "no step failed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::numeric) << error.what();
  }
}

}  // namespace
}  // namespace tunas::search
