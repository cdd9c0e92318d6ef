// Whole networks: what the supernet computes at an architecture is what Space::only of it computes;
// results do not depend on threads; a steady step allocates nothing; only the active prefix of a
// weight moves.
#include "search/network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "kernels/error.h"
#include "tests/support/synthetic_batch.h"

namespace {

long allocations = 0;

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tunas::search {
namespace {

NetworkConfig small_config(int resolution, int batch) {
  NetworkConfig config;
  config.supernet.resolution = resolution;
  config.train_batch = batch;
  config.validation_batch = 2 * batch;
  config.seed = 11;
  return config;
}

Arch random_arch(const Space& space, std::uint32_t which) {
  Arch arch;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const std::uint32_t r = philox({5, Purpose::test, which, 0}, d).v[0];
    arch.values.push_back(static_cast<std::int8_t>(r % space.decisions[d].options.size()));
  }
  return arch;
}

std::string layer_path(const PlanLayer& layer) {
  return "blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer);
}

/// Copies into `single` the prefixes of the supernet's weights that `arch` uses.
void copy_used(Network& supernet, const Plan& plan, Network& single) {
  const Plan alone = single.supernet().plan(Arch::largest(single.supernet().space()));
  std::vector<std::pair<std::string, std::string>> paths = {{"classifier", "classifier"}};
  std::size_t next = 0;
  for (const PlanLayer& layer : plan.layers) {
    if (layer.keep == 0) continue;
    paths.push_back({layer_path(alone.layers[next++]), layer_path(layer)});
  }
  ASSERT_EQ(next, alone.layers.size());
  for (const engine::Param& to : single.params().params()) {
    for (const auto& [own, shared] : paths) {
      if (to.name.rfind(own + "/", 0) != 0) continue;
      const engine::Param& from = *supernet.params().find(shared + to.name.substr(own.size()));
      const int rows = to.weight.out, taps = to.weight.k * to.weight.k, in = to.weight.in;
      for (int row = 0; row < rows * taps; ++row) {
        for (int i = 0; i < in; ++i) {
          single.params().data(to.weight)[row * in + i] =
              supernet.params().data(from.weight)[row * from.weight.in + i];
        }
      }
    }
  }
}

TEST(Network, OnlyComputesWhatTheSupernetComputesThere) {
  for (const char* name :
       {"proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"}) {
    const Space space = Space::named(name).scaled(0.25);
    engine::Device device = engine::Device::cpu(2);
    Network supernet(device, space, small_config(32, 4));
    const SyntheticBatch data(4, 32, space.classes);
    for (std::uint32_t which = 0; which < 3; ++which) {
      const Arch arch = random_arch(space, which);
      const Plan plan = supernet.supernet().plan(arch);
      Network single(device, space.only(arch), small_config(32, 4));
      copy_used(supernet, plan, single);
      supernet.score(data.batch, plan, engine::Pass::search_validation);
      const Outcome a = supernet.wait().back();
      const Plan point = single.supernet().plan(Arch::largest(single.supernet().space()));
      single.score(data.batch, point, engine::Pass::search_validation);
      const Outcome b = single.wait().back();
      EXPECT_EQ(a.loss, b.loss) << name << " " << arch.indices();
      EXPECT_GT(a.loss, 0);
    }
  }
}

TEST(Network, ResultsDoNotDependOnThreads) {
  const Space space = Space::named("mobilenet_v3_like_search").scaled(0.5);
  const SyntheticBatch data(6, 48, space.classes);
  std::vector<float> reference;
  for (const int threads : {1, 2, 3}) {
    engine::Device device = engine::Device::cpu(threads);
    Network network(device, space, small_config(48, 6));
    for (std::uint32_t step = 0; step < 3; ++step) {
      const Arch arch = step == 0 ? Arch::largest(space) : random_arch(space, step);
      const Plan plan = network.supernet().plan(arch);
      network.train_shard(data.batch, plan, step, 0);
      network.update(0.1);
    }
    const float* w = network.params().masters();
    if (reference.empty()) reference.assign(w, w + network.params().size());
    EXPECT_TRUE(std::equal(reference.begin(), reference.end(), w)) << threads << " threads";
  }
}

TEST(Network, ASteadyStepAllocatesNothing) {
  const Space space = Space::named("mobilenet_v3_like_search").scaled(0.25);
  engine::Device device = engine::Device::cpu(2);
  Network network(device, space, small_config(32, 4));
  const SyntheticBatch data(4, 32, space.classes);
  const Plan plan = network.supernet().plan(random_arch(space, 1));
  const auto step = [&] {
    network.train_shard(data.batch, plan, 0, 0);
    network.update(0.01);
    network.score(data.batch, plan, engine::Pass::search_validation);
    network.wait();
  };
  step();
  const long before = allocations;
  step();
  EXPECT_EQ(allocations, before);
}

TEST(Network, OnlyTheActivePrefixOfAWeightHasAGradient) {
  const Space space = Space::named("proxylessnas_enlarged_search").scaled(0.25);
  engine::Device device = engine::Device::cpu(2);
  Network network(device, space, small_config(32, 4));
  const SyntheticBatch data(4, 32, space.classes);
  Arch arch = random_arch(space, 2);
  const Plan plan = network.supernet().plan(arch);
  network.train_shard(data.batch, plan, 0, 0);
  long live = 0;
  for (const PlanLayer& layer : plan.layers) {
    if (layer.spec->kind != LayerKind::bottleneck) continue;
    const engine::Param& expand = *network.params().find(layer_path(layer) + "/expand/kernel");
    const int out = layer.keep > 0 ? layer.c_exp.now : 0, in = layer.c_in.now;
    for (int o = 0; o < expand.weight.out; ++o) {
      for (int i = 0; i < expand.weight.in; ++i) {
        const float g = network.params().grad(expand.weight)[o * expand.weight.in + i];
        if (o < out && i < in) {
          live += g != 0;
        } else {
          ASSERT_EQ(g, 0.0f) << expand.name << " " << o << " " << i;
        }
      }
    }
  }
  EXPECT_GT(live, 1000);
}

TEST(Network, TrainingLowersTheLoss) {
  const Space space = Space::named("mobilenet_v2").scaled(0.25).small_images();
  engine::Device device = engine::Device::cpu(2);
  NetworkConfig config = small_config(16, 16);
  config.supernet.running_averages = true;
  config.supernet.momentum = 0.7f;
  Network network(device, space, config);
  const SyntheticBatch data(16, 16, space.classes);
  const Plan plan = network.supernet().plan(Arch::largest(space));
  network.train_shard(data.batch, plan, 0, 0);
  const double first = network.wait().back().loss;
  for (std::uint32_t step = 0; step < 40; ++step) {
    network.train_shard(data.batch, plan, step, 0);
    network.update(0.1);
  }
  for (std::uint32_t step = 40; step < 60; ++step) {  // weights rest, running averages arrive
    network.train_shard(data.batch, plan, step, 0);
    network.params().update_running(1);
  }
  const Outcome last = network.wait().back();
  EXPECT_LT(last.loss, 0.5 * first) << "sixteen images can be learnt by heart";
  EXPECT_GT(last.top1, 12);
  network.score(data.batch, plan, engine::Pass::evaluate);
  EXPECT_GT(network.wait().back().top1, 12) << "running averages follow";
}

TEST(Network, AveragesFollowTheWeightsAndMayTakeTheirPlace) {
  const Space space = Space::named("mobilenet_v2").scaled(0.25).small_images();
  engine::Device device = engine::Device::cpu(1);
  NetworkConfig config = small_config(16, 4);
  config.supernet.running_averages = true;
  config.average = 0.75;
  Network network(device, space, config);
  const SyntheticBatch data(4, 16, space.classes);
  const Plan plan = network.supernet().plan(Arch::largest(space));
  const auto values = [&] {
    std::vector<float> all;
    for (const engine::Param& param : network.params().params()) {
      const std::vector<float> some = network.params().read(param);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  std::vector<float> mean;
  for (std::uint32_t step = 0; step < 4; ++step) {
    network.train_shard(data.batch, plan, step, 0);
    network.update(0.1);
    const std::vector<float> now = values();
    if (step == 0) mean = now;
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += 0.25f * (now[i] - mean[i]);
  }
  const std::vector<float> last = values();
  network.exchange_averages();
  const std::vector<float> averages = values();
  double difference = 0, moved = 0;
  for (std::size_t i = 0; i < mean.size(); ++i) {
    difference = std::max(difference, std::abs(1.0 * averages[i] - mean[i]));
    moved = std::max(moved, std::abs(1.0 * averages[i] - last[i]));
  }
  EXPECT_LT(difference, 1e-5);
  EXPECT_GT(moved, 1e-3);
  network.exchange_averages();
  EXPECT_EQ(values(), last);
}

TEST(Network, KeepsTheLogitsOfScoresWhereAsked) {
  const Space space = Space::named("mobilenet_v2").scaled(0.25).small_images();
  engine::Device device = engine::Device::cpu(1);
  NetworkConfig config = small_config(16, 4);
  config.supernet.running_averages = true;
  config.logits = NetworkConfig::Logits::keep;
  Network network(device, space, config);
  const SyntheticBatch first(4, 16, space.classes), second(3, 16, space.classes);
  const Plan plan = network.supernet().plan(Arch::largest(space));
  network.score(first.batch, plan, engine::Pass::evaluate);
  network.score(second.batch, plan, engine::Pass::evaluate);
  const std::vector<Outcome> outcomes = network.wait();
  ASSERT_EQ(outcomes.size(), 2u);
  const SyntheticBatch* batches[] = {&first, &second};
  for (int b = 0; b < 2; ++b) {
    const std::vector<float>& logits = outcomes[b].logits;
    const auto row = static_cast<std::size_t>(network.logit_row());
    ASSERT_EQ(row, 1008u);
    ASSERT_EQ(logits.size(), row * batches[b]->batch.labels.size());
    double loss = 0;  // without the smoothing of the configuration
    for (std::size_t n = 0; n < batches[b]->batch.labels.size(); ++n) {
      const float* all = &logits[n * row];
      const double most = *std::max_element(all, all + space.classes);
      double sum = 0;
      for (int c = 0; c < space.classes; ++c) sum += std::exp(all[c] - most);
      loss += std::log(sum) + most - all[batches[b]->batch.labels[n]];
    }
    EXPECT_NEAR(loss / batches[b]->batch.labels.size(), outcomes[b].loss, 1e-3);
  }
  const SyntheticBatch large(9, 16, space.classes);
  EXPECT_THROW(network.score(large.batch, plan, engine::Pass::evaluate), Error);
}

TEST(Network, NamesTheBatchThatFits) {
  const Space space = Space::named("mobilenet_v3_large").scaled(0.25);
  engine::Device device = engine::Device::cpu(1);
  NetworkConfig config = small_config(224, 0);
  config.shards = 4;
  const auto build = [&](int images) {
    config.train_batch = config.validation_batch = images;
    Network(device, space, config);
  };
  std::string message;
  try {
    build(10'000'000);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::memory);
    message = error.what();
  }
  const std::size_t at = message.find("; ");
  ASSERT_NE(at, std::string::npos) << message;
  const int fits = std::stoi(message.substr(at + 2));
  EXPECT_NE(message.find("--batch-size " + std::to_string(4 * fits)), std::string::npos) << message;
  EXPECT_NO_THROW(build(fits));
  EXPECT_THROW(build(fits + 1), Error);
}

TEST(Network, WeightsSurviveAFile) {
  const Space space = Space::named("mobilenet_v3_large").scaled(0.25);
  engine::Device device = engine::Device::cpu(1);
  NetworkConfig config = small_config(32, 2);
  Network a(device, space, config);
  config.seed = 12;
  Network b(device, space, config);
  const std::string file = testing::TempDir() + "network_test.safetensors";
  a.save_weights(file);
  b.load_weights(file);
  EXPECT_TRUE(std::equal(a.params().masters(), a.params().masters() + a.params().size(),
                         b.params().masters()));
  Network other(device, Space::named("mobilenet_v2").scaled(0.25), config);
  try {
    other.load_weights(file);
    ADD_FAILURE() << "weights of another network were accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data);
    EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tunas::search
