// A step cut into ranks: the same bytes for 1, 2 and 4 of them, and what a rank of several sums,
// when.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>

#include "engine/gloo.h"
#include "search/random_search.h"
#include "search/trainer.h"
#include "tests/engine/processes.h"
#include "tests/support/synthetic_batch.h"
#include "tests/support/watching_comm.h"

namespace tunas::search {
namespace {

using engine::Comm;
using engine::Processes;

constexpr int kResolution = 16, kBatch = 4, kShards = 4, kSteps = 3;

/// Distinct batches for all shards of all steps, as a loader's slice hands them out.
class Batches {
 public:
  Batches(int images, int first) {
    for (int b = 0; b < kSteps * kShards; ++b) {
      all_.emplace_back(images, kResolution, 10, static_cast<std::uint64_t>(first + b));
    }
  }
  NextBatch slice(const Comm& comm) {
    const int own = kShards / comm.size();
    return [this, own, first = comm.rank() * own, at = 0]() mutable -> const Batch& {
      const int b = at / own * kShards + first + at % own;
      ++at;
      return all_[static_cast<std::size_t>(b)].batch;
    };
  }

 private:
  std::vector<SyntheticBatch> all_;
};

NetworkConfig network_config() {
  NetworkConfig config;
  config.supernet.resolution = kResolution;
  config.train_batch = kBatch;
  config.validation_batch = 2 * kBatch;
  config.shards = kShards;
  return config;
}

Space space() {
  return Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/tiny.json");
}

std::string bytes_of(const Network& network) {
  const engine::ParamStore& params = network.params();
  std::string bytes(reinterpret_cast<const char*>(params.masters()), params.size() * sizeof(float));
  bytes.append(reinterpret_cast<const char*>(params.running()),
               params.running_size() * sizeof(float));
  return bytes;
}

/// Warm-ups are the caller's.
SearchConfig search_config() {
  SearchConfig config;
  config.network = network_config();
  config.steps = kSteps;
  config.learning_rate = 0.01;
  config.controller_rate = 0.1;
  config.reward.target = 2e5;
  return config;
}

/// What a search leaves: weights, logits and the reports of its steps.
std::string searched(Comm& comm) {
  const CostModel cost = CostModel::macs(space(), kResolution);
  SearchConfig config = search_config();
  config.delay = config.op_warmup = config.filter_warmup = 0.34;
  engine::Device own = engine::Device::cpu(1);
  Searcher searcher(own, space(), cost, config, comm);
  Batches train(kBatch, 0), held_out(2 * kBatch, 100);
  const NextBatch next = train.slice(comm), next_held_out = held_out.slice(comm);
  std::string bytes;
  while (!searcher.done()) {
    const SearchReport r = searcher.step(next, next_held_out);
    const double numbers[] = {r.loss, r.train_accuracy, r.accuracy, r.reward, r.baseline, r.cost};
    bytes.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  }
  for (const auto& logits : searcher.controller().state().logits) {
    bytes.append(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(double));
  }
  return bytes + bytes_of(searcher.network());
}

/// What a training with running and moving averages leaves, scores included.
std::string trained(Comm& comm) {
  engine::Device device = engine::Device::cpu(1);
  TrainConfig config;
  config.network = network_config();
  config.network.supernet.running_averages = true;
  config.network.supernet.dropout = 0.2f;
  config.network.average = 0.9;
  config.steps = kSteps;
  config.rate = engine::Cosine{0.05, 0, kSteps};
  const Space all = space();
  Trainer trainer(device, all.only(random_arch(all, 1, 0)), config, comm);
  Batches train(kBatch, 0);
  const NextBatch next = train.slice(comm);
  std::string bytes;
  while (!trainer.done()) {
    const TrainReport r = trainer.step(next);
    const double numbers[] = {r.loss, r.accuracy};
    bytes.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  }
  bytes += bytes_of(trainer.network());
  trainer.network().exchange_averages();
  return bytes + bytes_of(trainer.network());
}

/// What a search leaves of which shard 2 of the second step is not finite on the one rank that has
/// it.
std::string searched_past_a_skip(Comm& comm) {
  const CostModel cost = CostModel::macs(space(), kResolution);
  SearchConfig config = search_config();
  config.rate_warmup = config.delay = config.op_warmup = config.filter_warmup = 0;
  engine::Device own = engine::Device::cpu(1);
  Searcher searcher(own, space(), cost, config, comm);
  Batches train(kBatch, 0), held_out(2 * kBatch, 100);
  const NextBatch next = train.slice(comm), next_held_out = held_out.slice(comm);
  const engine::ParamStore& params = searcher.network().params();
  float* weight = params.data(params.find("blocks/1/layers/1/expand/kernel")->weight);
  std::string bytes;
  while (!searcher.done()) {
    const float kept = *weight;
    int shard = searcher.network().first_shard();
    const SearchReport r = searcher.step(
        [&]() -> const Batch& {
          const bool plant = searcher.step_number() == 1 && shard++ == 2;
          *weight = plant ? std::numeric_limits<float>::infinity() : kept;
          return next();
        },
        [&]() -> const Batch& {
          if (searcher.step_number() == 1) *weight = kept;
          return next_held_out();
        });
    bytes += r.not_finite ? r.not_finite->text() : "well";
    bytes += bytes_of(searcher.network());
  }
  for (const auto& logits : searcher.controller().state().logits) {
    bytes.append(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(double));
  }
  return bytes;
}

class RanksTest : public testing::Test {
 protected:
  RanksTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("tunas_search_ranks_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~RanksTest() override { std::filesystem::remove_all(folder_); }
  void SetUp() override {
    if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  }

  /// What `work` leaves on each of `ranks` ranks.
  std::vector<std::string> on_ranks(int ranks, engine::Sums sums,
                                    const std::function<std::string(Comm&)>& work) {
    const std::string folder = (folder_ / std::to_string(made_++)).string();
    std::filesystem::create_directories(folder);
    const auto file = [&](int rank) { return folder + "/left" + std::to_string(rank); };
    Processes processes(ranks, [&](int rank) {
      engine::Gloo comm({rank, ranks, folder + "/rendezvous", 30, sums});
      engine::write_file(file(rank), work(comm));
    });
    std::vector<std::string> left;
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(processes.code(rank), 0) << processes.said(rank);
      left.push_back(engine::read_file(file(rank)));
    }
    return left;
  }

  std::filesystem::path folder_;
  int made_ = 0;
};

TEST_F(RanksTest, SearchAndTrainTheSameBytesOnOneTwoAndFour) {
  for (const auto& work : {searched, trained}) {
    // In processes of their own, too: this one must not have threads when it forks.
    const std::string alone = on_ranks(1, engine::Sums::fixed, work).front();
    EXPECT_GT(alone.size(), 10'000u);
    for (const int ranks : {2, 4}) {
      for (const std::string& left : on_ranks(ranks, engine::Sums::fixed, work)) {
        EXPECT_TRUE(left == alone) << "on " << ranks << " ranks";
      }
    }
  }
}

TEST_F(RanksTest, SkipTheSameStepAndSayTheSame) {
  const std::string alone = on_ranks(1, engine::Sums::fixed, searched_past_a_skip).front();
  EXPECT_NE(alone.find("step 1, shard 2, forward from blocks/1/layers/1/expand on"),
            std::string::npos);
  for (const int ranks : {2, 4}) {
    for (const std::string& left : on_ranks(ranks, engine::Sums::fixed, searched_past_a_skip)) {
      EXPECT_TRUE(left == alone) << "on " << ranks << " ranks";
    }
  }
}

TEST_F(RanksTest, AgreeAmongThemselvesWhenSumsAreFast) {
  const std::vector<std::string> left = on_ranks(4, engine::Sums::fast, searched);
  for (const std::string& one : left) EXPECT_TRUE(one == left.front());
}

TEST(Buckets, AreDoneWhenTheirSumsStartAndTheSameForEveryArchitecture) {
  Space space = Space::named("mobilenet_v3_like_search");
  space.resolution = 32;
  NetworkConfig config = network_config();
  config.supernet.resolution = 32;
  config.train_batch = config.validation_batch = 2;
  config.shards = 2;
  engine::Device device = engine::Device::cpu(2);
  engine::WatchingComm comm(2);
  Network network(device, space, config, comm);
  SyntheticBatch batch(2, 32, space.classes);
  std::vector<std::pair<std::ptrdiff_t, std::size_t>> cuts[2];
  const Arch archs[] = {Arch::largest(space), random_arch(space, 1, 0)};  // skips layers
  for (int i = 0; i < 2; ++i) {
    const std::size_t before = comm.sums().size();
    network.train_shard(batch.batch, network.supernet().plan(archs[i]), 0, 0);
    network.update(0.01);
    const auto sums = std::span(comm.sums()).subspan(before);
    for (const auto& sum : sums)
      cuts[i].emplace_back(sum.data() - network.params().grads(), sum.size());
  }
  EXPECT_TRUE(comm.left_alone());
  EXPECT_EQ(cuts[0], cuts[1]);
  EXPECT_GT(cuts[0].size(), 3u) << "else nothing runs beside backward";
  std::size_t end = network.params().size();
  for (const auto& [begin, size] : cuts[0]) {
    EXPECT_EQ(static_cast<std::size_t>(begin) + size, end);
    end = static_cast<std::size_t>(begin);
  }
  EXPECT_EQ(end, 0u);
}

}  // namespace
}  // namespace tunas::search
