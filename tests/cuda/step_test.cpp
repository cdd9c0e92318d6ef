// Whole steps on the GPU against the CPU backend: the same weights, batch and architecture; losses,
// ranks, every gradient, the weights after an update, and the scores with them.
#include <algorithm>
#include <map>
#include <memory>

#include "search/network.h"
#include "tests/cuda/device.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::testing {
namespace {

using engine::Device;
using engine::Pass;
using search::Arch;
using search::Network;
using search::NetworkConfig;
using search::Outcome;
using search::Plan;
using search::Space;

constexpr int kImages = 2, kShards = 3, kScored = 4;

/// What a step leaves.
struct Step {
  std::vector<Outcome> outcomes;
  std::map<std::string, Values> gradients, weights;
};

NetworkConfig config(int resolution, bool alone) {
  NetworkConfig c;
  c.supernet.resolution = resolution;
  c.supernet.running_averages = alone;
  c.supernet.dropout = 0.2f;
  c.train_batch = kImages;
  c.validation_batch = kScored;
  c.shards = kShards;
  c.seed = 5;
  return c;
}

/// A parameter's floats in `from` of the store, wherever it lies.
Values floats(const Device& device, const float* from, std::size_t count) {
  std::vector<float> host(count);
  device.copy(host.data(), from, count * sizeof(float));
  device.sync();
  return {host.begin(), host.end()};
}

/// `plans`: one a shard.
Step run(Device device, const Space& space, const NetworkConfig& c,
         const std::function<Plan(const Network&, int)>& plan_of) {
  Network network(device, space, c);
  Step step;
  for (int s = 0; s < kShards; ++s) {
    // The batch lives as long as its call, as a loader's does.
    const SyntheticBatch data(kImages, c.supernet.resolution, space.classes,
                              static_cast<std::uint64_t>(10 + s));
    network.train_shard(data.batch, plan_of(network, s), 3, s);
  }
  for (const engine::Param& p : network.params().params()) {
    if (p.weight.running) continue;
    step.gradients[p.name] = floats(device, network.params().grad(p.weight), p.stored());
  }
  network.update(0.5);
  const Pass pass = c.supernet.running_averages ? Pass::evaluate : Pass::search_validation;
  for (int s = 0; s < kShards; ++s) {
    const SyntheticBatch data(kScored, c.supernet.resolution, space.classes,
                              static_cast<std::uint64_t>(20 + s));
    network.score(data.batch, plan_of(network, s), pass);
  }
  step.outcomes = network.wait();
  EXPECT_EQ(network.skipped_parameters(), 0u);
  for (const engine::Param& p : network.params().params()) {
    step.weights[p.name] = floats(device, network.params().data(p.weight), p.stored());
  }
  return step;
}

Values joined(const std::map<std::string, Values>& parts) {
  Values all;
  for (const auto& [name, values] : parts) all.insert(all.end(), values.begin(), values.end());
  return all;
}

/// `all`: limit of a whole set of tensors; `each`: of the worst one.
struct Limits {
  double loss, all, each;
};

void expect_agreement(const Step& gpu, const Step& cpu, const Limits& limits) {
  ASSERT_EQ(gpu.outcomes.size(), cpu.outcomes.size());
  for (std::size_t i = 0; i < gpu.outcomes.size(); ++i) {
    EXPECT_NEAR(gpu.outcomes[i].loss, cpu.outcomes[i].loss, limits.loss * cpu.outcomes[i].loss);
    EXPECT_EQ(gpu.outcomes[i].images, cpu.outcomes[i].images);
  }
  EXPECT_LT(relative_error(joined(gpu.gradients), joined(cpu.gradients)), limits.all);
  EXPECT_LT(relative_error(joined(gpu.weights), joined(cpu.weights)), limits.all);
  // A tensor whose gradient is the rounding left of sums that cancel has no relative error.
  for (const auto& [name, values] : cpu.gradients) {
    double norm = 0;
    for (const double v : values) norm += v * v;
    if (std::sqrt(norm) < 1e-3) continue;
    EXPECT_LT(relative_error(gpu.gradients.at(name), values), limits.each) << name;
  }
}

Arch random_arch(const Space& space, int which) {
  Arch arch;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const std::uint32_t r =
        philox({8, Purpose::test, static_cast<std::uint32_t>(which), 0}, d).v[0];
    arch.values.push_back(static_cast<std::int8_t>(r % space.decisions[d].options.size()));
  }
  return arch;
}

TEST(CudaStep, NetworksTrainedAloneAgreeWithTheCpu) {
  for (const char* name : {"mobilenet_v3_large", "mobilenet_v2"}) {
    SCOPED_TRACE(name);
    const Space space = Space::named(name).scaled(0.25).small_images();
    const NetworkConfig c = config(16, true);
    const auto plan = [&](const Network& n, int) {
      return n.supernet().plan(Arch::largest(space));
    };
    const Step cpu = run(Device::cpu(1), space, c, plan);
    expect_agreement(run(Device::cuda(DType::f32), space, c, plan), cpu, {1e-4, 1e-4, 1e-3});
    expect_agreement(run(Device::cuda(DType::bf16), space, c, plan), cpu, {0.05, 0.3, 1.0});
  }
}

TEST(CudaStep, ReplayedPassesLeaveTheSameBits) {
  const Space space = Space::named("mobilenet_v2").scaled(0.25).small_images();
  NetworkConfig c = config(8, true);
  c.shards = 1;
  Values weights[2];
  std::vector<double> losses[2];
  for (const auto plans : {NetworkConfig::Plans::varying, NetworkConfig::Plans::fixed}) {
    c.plans = plans;
    Device device = Device::cuda(DType::bf16);
    Network network(device, space, c);
    const auto which = static_cast<std::size_t>(plans);
    const Plan plan = network.supernet().plan(Arch::largest(space));
    std::size_t available = 0;
    for (std::uint32_t step = 0; step < 9; ++step) {  // each of the ring's inputs three times
      if (step == 3) available = device.available();
      const SyntheticBatch data(kImages, 8, space.classes, step);
      network.train_shard(data.batch, plan, step, 0);
      network.update(0.1);
      network.score(data.batch, plan, Pass::evaluate);
      for (const Outcome& outcome : network.wait()) losses[which].push_back(outcome.loss);
    }
    EXPECT_EQ(device.available(), available) << "a steady step allocates nothing";
    weights[which] = floats(device, network.params().masters(), network.params().size());
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(weights[0], weights[1]);
}

TEST(CudaStep, SearchStepsAgreeWithTheCpu) {
  for (const char* name :
       {"proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"}) {
    SCOPED_TRACE(name);
    const Space space = Space::named(name).scaled(0.25).small_images();
    const NetworkConfig c = config(16, false);
    const auto plan = [&](const Network& n, int shard) {
      return n.supernet().plan(random_arch(space, shard));
    };
    const Step cpu = run(Device::cpu(1), space, c, plan);
    expect_agreement(run(Device::cuda(DType::f32), space, c, plan), cpu, {1e-4, 1e-4, 1e-3});
  }
}

}  // namespace
}  // namespace tunas::testing
