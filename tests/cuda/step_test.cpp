// Whole steps on the GPU against the CPU backend: the same weights, batch and architecture; losses,
// ranks, every gradient, the weights after an update, and the scores with them.
#include <functional>
#include <map>

#include "search/network.h"
#include "tests/cuda/field.h"
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

constexpr int kImages = 2, kScored = 2, kSide = 16;

/// What a step leaves.
struct Step {
  std::vector<Outcome> outcomes;
  std::map<std::string, Values> gradients, weights;
};

NetworkConfig config(int shards) {
  NetworkConfig c;
  c.supernet.resolution = kSide;
  c.supernet.dropout = 0.2f;
  c.train_batch = kImages;
  c.validation_batch = kScored;
  c.shards = shards;
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

/// Architecture `arch_of(shard)` for each shard.
Step run(Device device, const Space& space, const NetworkConfig& c,
         const std::function<Arch(int)>& arch_of) {
  Network network(device, space, c);
  const auto plan = [&](int s) { return network.supernet().plan(arch_of(s)); };
  Step step;
  for (int s = 0; s < c.shards; ++s) {
    // The batch lives as long as its call, as a loader's does.
    const SyntheticBatch data(kImages, kSide, space.classes, static_cast<std::uint64_t>(10 + s));
    network.train_shard(data.batch, plan(s), 3, s);
  }
  for (const engine::Param& p : network.params().params()) {
    if (p.weight.running) continue;
    step.gradients[p.name] = floats(device, network.params().grad(p.weight), p.stored());
  }
  network.update(0.01);
  for (int s = 0; s < c.shards; ++s) {
    const SyntheticBatch data(kScored, kSide, space.classes, static_cast<std::uint64_t>(20 + s));
    network.score(data.batch, plan(s), Pass::search_validation);
  }
  step.outcomes = network.wait();
  EXPECT_EQ(network.verdict().not_finite, 0u);
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

/// Of relative errors: of losses, of all gradients together, of all weights after the update.
struct Limits {
  double losses, gradients, weights;
};

void expect_agreement(const Step& gpu, const Step& cpu, const Limits& limits) {
  Values got, want;
  for (const Outcome& outcome : gpu.outcomes) got.push_back(outcome.loss);
  for (const Outcome& outcome : cpu.outcomes) want.push_back(outcome.loss);
  const double losses = relative_error(got, want);
  const double gradients = relative_error(joined(gpu.gradients), joined(cpu.gradients));
  const double weights = relative_error(joined(gpu.weights), joined(cpu.weights));
  std::printf("[ errors   ] losses %.1e, gradients %.1e, weights %.1e\n", losses, gradients,
              weights);
  EXPECT_LT(losses, limits.losses);
  EXPECT_LT(gradients, limits.gradients);
  EXPECT_LT(weights, limits.weights);
}

/// With a smooth activation. A value at a kink that rounding moves to its other side moves
/// gradients by percents, so the tight comparisons are made with this.
Space smooth(Space space) {
  for (search::Block& block : space.blocks) {
    for (search::Layer& layer : block.layers) layer.act = Act::sigmoid;
  }
  return space;
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

/// Of kinks there remain few enough in two images of 16 pixels for the losses, not for gradients.
TEST(CudaStep, ANetworkAgreesWithTheCpu) {
  const Space real = Space::named("mobilenet_v3_large").scaled(0.25).small_images();
  const auto compare = [](const Space& space, int shards, const Limits& fp32, const Limits& bf16) {
    const NetworkConfig c = config(shards);
    const auto arch = [&](int) { return Arch::largest(space); };
    const Step cpu = run(Device::cpu(1), space, c, arch);
    expect_agreement(run(Device::cuda(DType::f32), space, c, arch), cpu, fp32);
    expect_agreement(run(Device::cuda(DType::bf16), space, c, arch), cpu, bf16);
  };
  compare(smooth(real), 2, {1e-6, 1e-5, 1e-7}, {1e-3, 1e-2, 1e-5});
  compare(real, 1, {1e-5, 1e-3, 1e-6}, {5e-3, 1, 1e-3});
}

Space tiny() {
  return Space::parse(R"({"name": "tiny", "resolution": 16, "classes": 10, "blocks": [
    {"filters": 8, "layers": [{"op": "conv", "kernel": 3, "stride": 2},
                              {"op": "activation", "act": "hard_swish"}]},
    {"filters": 8, "layers": [
      {"op": "bottleneck", "kernel": 3, "expansion": 2, "stride": 2},
      {"op": "bottleneck", "kernel": 5, "expansion": 3, "residual": true, "squeeze_excite": true}]},
    {"filters": 16, "layers": [{"op": "conv", "kernel": 1}, {"op": "activation", "act": "relu"},
                               {"op": "global_pool"}]}]})",
                      "tiny");
}

TEST(CudaStep, ReplayedPassesLeaveTheSameBits) {
  const Space space = tiny();
  NetworkConfig c = config(1);
  c.supernet.running_averages = true;
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
      const SyntheticBatch data(kImages, kSide, space.classes, step);
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

/// The word and the verdict come to the host, and go; weights, shadow and state stay.
TEST(CudaStep, WhatIsNotFiniteIsSkippedAndNamed) {
  const Space space = tiny();
  NetworkConfig c = config(1);
  c.average = 0.5;
  Device device = Device::cuda(DType::bf16);
  Network network(device, space, c);
  const Plan plan = network.supernet().plan(Arch::largest(space));
  const SyntheticBatch data(kImages, kSide, space.classes, 1);
  engine::ParamStore& params = network.params();
  const engine::Param& kernel = *params.find("blocks/1/layers/1/expand/kernel");
  const engine::Param& gamma = *params.find("blocks/1/layers/1/expand/norm/gamma");
  const auto step = [&] {
    network.train_shard(data.batch, plan, 0, 0);
    network.update(0.1);
    return network.wait().back();
  };
  const auto state = [&] {
    std::vector<Values> all = {floats(device, params.masters(), params.size())};
    for (int i = 0; i < 2; ++i) all.push_back(floats(device, params.state(i), params.size()));
    all.push_back(floats(device, static_cast<float*>(params.shadow()), params.size() / 2));
    return all;
  };
  EXPECT_TRUE(std::isfinite(step().loss));
  const std::vector<float> values = params.read(kernel);
  std::vector<float> broken = values;
  broken.front() = INFINITY;
  params.write(kernel, broken);
  const std::vector<Values> before = state();
  const Outcome outcome = step();
  EXPECT_TRUE(std::isnan(outcome.loss));
  ASSERT_TRUE(outcome.origin);
  EXPECT_EQ(*outcome.origin, static_cast<std::uint32_t>(gamma.weight.offset));
  EXPECT_GT(network.verdict().not_finite, 0u);
  EXPECT_EQ(state(), before);
  params.write(kernel, values);
  EXPECT_FALSE(step().origin);
  EXPECT_EQ(network.verdict().not_finite, 0u);
  EXPECT_NE(state(), before);
}

TEST(CudaStep, SearchStepsAgreeWithTheCpu) {
  for (const char* name :
       {"proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"}) {
    SCOPED_TRACE(name);
    const Space space = smooth(Space::named(name).scaled(0.25).small_images());
    const NetworkConfig c = config(1);
    const auto arch = [&](int shard) { return random_arch(space, shard); };
    const Step cpu = run(Device::cpu(1), space, c, arch);
    expect_agreement(run(Device::cuda(DType::f32), space, c, arch), cpu, {1e-6, 1e-5, 1e-7});
  }
}

}  // namespace
}  // namespace tunas::testing
