// Steps that are not finite, with a plant in a weight, in backward alone, in a held-out pass: what
// is named, and that all state stays bit for bit, or goes on as if the step had not been.
#include "search/not_finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "kernels/error.h"
#include "search/random_search.h"
#include "search/searcher.h"
#include "search/trainer.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::search {
namespace {

using Where = NotFinite::Where;

constexpr int kResolution = 16, kBatch = 4;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Space tiny() {
  return Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/tiny.json");
}

/// Bits of everything that a step of this network may change.
std::string bits(Network& network, int states) {
  const engine::ParamStore& params = network.params();
  std::string all;
  const auto add = [&all](const float* from, std::size_t count) {
    all.append(reinterpret_cast<const char*>(from), count * sizeof(float));
  };
  const auto weights = [&] {
    add(params.masters(), params.size());
    add(params.running(), params.running_size());
  };
  weights();
  for (int i = 0; i < states; ++i) add(params.state(i), params.size());
  network.exchange_averages();
  weights();
  network.exchange_averages();
  return all;
}

/// One number of a parameter, replaced and put back.
class Plant {
 public:
  Plant(Network& network, const std::string& name, float value, std::ptrdiff_t at = 0)
      : to_(network.params().data(network.params().find(name)->weight) + at), was_(*to_) {
    *to_ = value;
  }
  void remove() { *to_ = was_; }

 private:
  float* to_;
  float was_;
};

/// A channel of a linear convolution that is zero, whatever comes in, and has a scale so large
/// that its gradient overflows; nobody sees it in a forward pass.
void plant_overflow(Network& network, const std::string& layer, const std::string& reader) {
  engine::ParamStore& params = network.params();
  const engine::Weight kernel = params.find(layer + "/kernel")->weight;
  std::fill_n(params.data(kernel), kernel.in, 0.0f);  // of channel 0
  *params.data(params.find(layer + "/norm/gamma")->weight) = 1e36f;
  const engine::Weight next = params.find(reader + "/kernel")->weight;
  for (int out = 0; out < next.out; ++out) params.data(next)[out * next.in] = 1e10f;
}

SearchConfig search_config() {
  SearchConfig config;
  config.network.supernet.resolution = kResolution;
  config.network.train_batch = kBatch;
  config.network.validation_batch = kBatch;
  config.network.shards = 2;
  config.steps = 100;
  config.learning_rate = 0.01;
  config.controller_rate = 0.1;
  config.rate_warmup = config.delay = config.op_warmup = config.filter_warmup = 0;
  config.reward.target = 2e5;
  return config;
}

class SearchTest : public testing::Test {
 protected:
  using Call = std::function<void()>;  // before a shard's batch

  SearchReport step(const Call& before_training = nothing, const Call& before_scoring = nothing) {
    const auto next = [](const Call& call, const SyntheticBatch& data) {
      return [&]() -> const Batch& {
        call();
        return data.batch;
      };
    };
    return searcher_.step(next(before_training, train_), next(before_scoring, held_out_));
  }
  static void nothing() {}
  Network& network() { return searcher_.network(); }
  std::string bits() { return search::bits(network(), 2); }
  ControllerState controller() const { return searcher_.controller().state(); }

  /// The next step is as if nothing had been.
  void expect_recovery() {
    const std::string before = bits();
    const ControllerState controller = this->controller();
    const SearchReport report = step();
    EXPECT_FALSE(report.not_finite);
    EXPECT_TRUE(std::isfinite(report.loss) && std::isfinite(report.reward));
    EXPECT_NE(bits(), before);
    EXPECT_FALSE(this->controller() == controller);
    EXPECT_EQ(searcher_.not_finite().length(), 0);
  }

  engine::Device device_ = engine::Device::cpu(2);
  Space space_ = tiny();
  CostModel cost_ = CostModel::macs(space_, kResolution);
  SyntheticBatch train_{kBatch, kResolution, 10}, held_out_{kBatch, kResolution, 10, 2};
  Searcher searcher_{device_, space_, cost_, search_config()};
};

TEST_F(SearchTest, AWeightInTheMiddleIsNamedAndNothingChanges) {
  step();  // mean squares and the baseline are no longer what they start with
  const std::pair<const char*, const char*> plants[] = {
      {"blocks/1/layers/1/expand/kernel", "blocks/1/layers/1/expand"},
      {"blocks/1/layers/0/project/norm/beta", "blocks/1/layers/0/project"},
      {"blocks/0/layers/0/conv_3/kernel", "blocks/0/layers/0/conv_3"},
      {"classifier/kernel", "classifier"}};
  for (const auto& [name, layer] : plants) {
    SCOPED_TRACE(name);
    Plant plant(network(), name, kInfinity);
    const std::string before = bits();
    const ControllerState controller = this->controller();
    const std::int64_t number = searcher_.step_number();
    const SearchReport report = step();
    EXPECT_EQ(searcher_.step_number(), number + 1);
    EXPECT_EQ(searcher_.not_finite().length(), 1);
    ASSERT_TRUE(report.not_finite);
    EXPECT_EQ(report.not_finite->where, Where::forward);
    EXPECT_EQ(report.not_finite->step, number);
    EXPECT_EQ(report.not_finite->shard, 0);
    EXPECT_EQ(report.not_finite->layer, layer);
    for (const double none : {report.loss, report.train_accuracy, report.reward, report.baseline}) {
      EXPECT_TRUE(std::isnan(none));
    }
    EXPECT_TRUE(std::isfinite(report.cost) && std::isfinite(report.entropy));
    EXPECT_EQ(bits(), before);
    EXPECT_TRUE(this->controller() == controller);
    plant.remove();
    expect_recovery();
  }
}

TEST_F(SearchTest, TheShardIsNamed) {
  std::optional<Plant> plant;
  const std::string before = bits();
  int shard = 0;
  const SearchReport report = step(
      [&] {
        if (shard++ == 1) plant.emplace(network(), "blocks/1/layers/0/expand/kernel", kInfinity);
      },
      [&] {
        if (plant) plant->remove();
        plant.reset();
      });
  ASSERT_TRUE(report.not_finite);
  EXPECT_EQ(report.not_finite->shard, 1);
  EXPECT_EQ(report.not_finite->layer, "blocks/1/layers/0/expand");
  EXPECT_EQ(
      report.not_finite->text(),
      "step 0, shard 1, forward from blocks/1/layers/0/expand on: numbers are not finite; the "
      "step is skipped");
  EXPECT_EQ(bits(), before);
  EXPECT_TRUE(std::isfinite(report.accuracy)) << "the weights could be scored";
  expect_recovery();
}

TEST_F(SearchTest, AGradientAloneIsNamedByItsLastLayer) {
  step();
  plant_overflow(network(), "blocks/1/layers/0/project", "blocks/1/layers/1/expand");
  const std::string before = bits();
  const ControllerState controller = this->controller();
  const SearchReport report = step();
  EXPECT_TRUE(std::isfinite(report.loss) && std::isfinite(report.accuracy));
  ASSERT_TRUE(report.not_finite);
  EXPECT_EQ(report.not_finite->where, Where::backward);
  EXPECT_EQ(report.not_finite->layer, "blocks/1/layers/0/project");
  EXPECT_EQ(bits(), before);
  EXPECT_TRUE(this->controller() == controller);
  *network().params().data(
      network().params().find("blocks/1/layers/0/project/norm/gamma")->weight) = 1;
  expect_recovery();
}

TEST_F(SearchTest, AHeldOutPassAloneStopsTheControllerAlone) {
  step();
  const std::string before = bits();
  const ControllerState controller = this->controller();
  std::optional<Plant> plant;
  int shard = 0;
  const SearchReport report = step(nothing, [&] {
    if (shard++ == 1) plant.emplace(network(), "blocks/2/layers/0/conv_1/kernel", kInfinity);
  });
  plant->remove();
  ASSERT_TRUE(report.not_finite);
  EXPECT_EQ(report.not_finite->where, Where::held_out);
  EXPECT_EQ(report.not_finite->shard, 1);
  EXPECT_EQ(report.not_finite->layer, "blocks/2/layers/0/conv_1");
  EXPECT_NE(report.not_finite->text().find("controller"), std::string::npos);
  EXPECT_TRUE(std::isfinite(report.loss) && std::isnan(report.accuracy) &&
              std::isnan(report.reward));
  EXPECT_NE(bits(), before) << "the weights were updated";
  EXPECT_TRUE(this->controller() == controller);
  EXPECT_EQ(searcher_.not_finite().length(), 1);
  expect_recovery();
}

TEST_F(SearchTest, TwentyInARowAreTheEnd) {
  const auto skip = [&](int steps) {
    Plant plant(network(), "blocks/1/layers/1/expand/kernel", kInfinity);
    for (int i = 0; i < steps; ++i) EXPECT_TRUE(step().not_finite);
    plant.remove();
  };
  skip(NotFiniteStreak::kMost - 1);
  expect_recovery();
  skip(NotFiniteStreak::kMost - 2);
  searcher_.not_finite().restore(NotFiniteStreak::kMost - 1);  // as a run that goes on
  Plant plant(network(), "blocks/1/layers/1/expand/kernel", kInfinity);
  try {
    step();
    ADD_FAILURE() << "that was the twentieth";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::numeric);
    EXPECT_STREQ(error.what(),
                 "numbers were not finite in 20 steps in a row, the last time in step 38, shard 0, "
                 "forward from blocks/1/layers/1/expand on; a smaller --lr may help");
  }
}

/// A network alone, with running averages, moving averages and each optimizer.
class TrainTest : public testing::TestWithParam<engine::Optimizer::Kind> {
 protected:
  static TrainConfig config() {
    TrainConfig config;
    config.network.supernet.resolution = kResolution;
    config.network.supernet.running_averages = true;
    config.network.optimizer.kind = GetParam();
    config.network.train_batch = config.network.validation_batch = kBatch;
    config.network.shards = 2;
    config.network.average = 0.5;
    config.steps = 100;
    config.rate = engine::Staircase{0.01, 1, 10};
    return config;
  }
  TrainReport step() {
    return trainer_.step([this]() -> const Batch& { return train_.batch; });
  }
  std::string bits() { return search::bits(network(), config().network.optimizer.states()); }
  Network& network() { return trainer_.network(); }

  engine::Device device_ = engine::Device::cpu(2);
  Space space_ = tiny().only(random_arch(tiny(), 0, 0));
  SyntheticBatch train_{kBatch, kResolution, 10};
  Trainer trainer_{device_, space_, config()};
};

TEST_P(TrainTest, NothingChangesInAStepThatIsNotFinite) {
  EXPECT_FALSE(step().not_finite);
  EXPECT_FALSE(step().not_finite);
  Plant plant(network(), "blocks/1/layers/1/expand/kernel", kInfinity);
  std::string before = bits();
  TrainReport report = step();
  ASSERT_TRUE(report.not_finite);
  EXPECT_EQ(report.not_finite->where, Where::forward);
  EXPECT_EQ(report.not_finite->layer, "blocks/1/layers/1/expand");
  EXPECT_TRUE(std::isnan(report.loss) && std::isnan(report.accuracy));
  EXPECT_EQ(trainer_.step_number(), 3);
  EXPECT_EQ(trainer_.not_finite().length(), 1);
  EXPECT_EQ(bits(), before);
  plant.remove();
  before = bits();
  EXPECT_FALSE(step().not_finite);
  EXPECT_NE(bits(), before);

  plant_overflow(network(), "blocks/1/layers/0/project", "blocks/1/layers/1/expand");
  before = bits();
  report = step();
  ASSERT_TRUE(report.not_finite);
  EXPECT_EQ(report.not_finite->where, Where::backward);
  EXPECT_EQ(report.not_finite->layer, "blocks/1/layers/0/project");
  EXPECT_EQ(bits(), before);
}

TEST_P(TrainTest, AveragesBeginWithTheFirstStepThatIsFinite) {
  Plant plant(network(), "blocks/1/layers/1/expand/kernel", kInfinity);
  EXPECT_TRUE(step().not_finite);
  plant.remove();
  EXPECT_FALSE(step().not_finite);
  const auto weights = [this] {
    std::vector<float> all;
    for (const engine::Param& param : network().params().params()) {
      const std::vector<float> some = network().params().read(param);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const std::vector<float> first = weights();
  network().exchange_averages();
  EXPECT_EQ(weights(), first) << "a copy";
  network().exchange_averages();
  EXPECT_FALSE(step().not_finite);
  network().exchange_averages();
  EXPECT_NE(weights(), first);
}

TEST_P(TrainTest, TwentyInARowAreTheEnd) {
  const Plant plant(network(), "classifier/bias", kInfinity);
  for (int i = 1; i < NotFiniteStreak::kMost; ++i)
    EXPECT_EQ(step().not_finite->layer, "classifier");
  EXPECT_THROW(step(), Error);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, TrainTest,
                         testing::Values(engine::Optimizer::Kind::rms_prop,
                                         engine::Optimizer::Kind::sgd));

/// Whichever normalisation it is, no earlier one is named: offsets follow the network.
TEST(NotFiniteOrigin, ParametersLieInTheOrderOfTheNetwork) {
  for (const Space& space : {tiny(), Space::named("mobilenet_v3_like_search").scaled(0.25)}) {
    engine::Device device = engine::Device::cpu(2);
    NetworkConfig config;
    config.supernet.resolution = kResolution;
    config.train_batch = config.validation_batch = 1;
    Network network(device, space, config);
    const Plan plan = network.supernet().plan(Arch::largest(space));
    const SyntheticBatch data(1, kResolution, space.classes);
    int norms = 0;
    for (const engine::Param& param : network.params().params()) {
      if (!param.name.ends_with("/gamma")) continue;
      Plant plant(network, param.name, kInfinity);
      network.score(data.batch, plan, engine::Pass::search_validation);
      const Outcome outcome = network.wait().back();
      ASSERT_TRUE(outcome.origin) << param.name;
      EXPECT_EQ(*outcome.origin, static_cast<std::uint32_t>(param.weight.offset)) << param.name;
      EXPECT_EQ(layer_at(network.params(), *outcome.origin) + "/norm/gamma", param.name);
      EXPECT_TRUE(std::isnan(outcome.loss) && std::isnan(outcome.accuracy()));
      plant.remove();
      ++norms;
    }
    EXPECT_GT(norms, 10);
    network.score(data.batch, plan, engine::Pass::search_validation);
    EXPECT_FALSE(network.wait().back().origin) << "the last pass's is forgotten";
  }
}

}  // namespace
}  // namespace tunas::search
