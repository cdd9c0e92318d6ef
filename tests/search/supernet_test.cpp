// The prefix network equals the masked one of the paper: logits, loss and every gradient, for
// sampled architectures and for every state of warm-up (tests/support/masked_twin.h).
#include "search/supernet.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/softmax_xent.h"
#include "kernels/error.h"
#include "tests/support/masked_twin.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::search {
namespace {

using test::Values;

constexpr int kImages = 4, kResolution = 32;

struct Engine {
  engine::Device device = engine::Device::cpu(2);
  engine::ParamStore params;
  Space space;
  SupernetConfig config;
  Supernet supernet;
  engine::Memory memory = device.alloc(std::size_t{512} << 20);
  engine::Arena arena{memory.data(), memory.bytes()};
  engine::Tape tape{device.stream(), arena, params};

  Engine(Space s, SupernetConfig c) : space(std::move(s)), config(c), supernet(space, params, c) {
    params.allocate(device, 1, 0);
    params.init(21);
    // Scales and shifts away from 1 and 0, so that a forgotten one shows.
    for (std::size_t p = 0; p < params.params().size(); ++p) {
      const engine::Param& param = params.params()[p];
      if (param.init.kind != engine::Init::Kind::constant) continue;
      for (std::size_t i = 0; i < param.stored(); ++i) {
        const Random4 r = philox({3, Purpose::test, static_cast<std::uint32_t>(p), 0}, i);
        params.data(param.weight)[i] += 0.6f * uniform_float(r.v[0]) - 0.3f;
      }
    }
  }
};

test::TwinResult run(Engine& e, const Batch& batch, const Plan& plan) {
  std::vector<float> loss(kImages);
  std::vector<std::int32_t> rank(kImages);
  e.params.begin_shard();
  e.tape.reset(engine::Pass::train);
  const engine::Raw logits = e.supernet.forward(e.tape, engine::host_inputs(batch, {}), plan);
  test::TwinResult result;
  const Tensor values = e.tape.value(logits.y);
  for (int n = 0; n < kImages; ++n) {
    for (int c = 0; c < plan.classes; ++c) {
      result.logits.push_back(values.f32()[n * values.c + c]);
    }
  }
  engine::softmax_xent(e.tape, logits,
                       {plan.classes, batch.labels.data(), 0.1f, loss.data(), rank.data()});
  e.tape.backward();
  for (const float l : loss) result.loss += l / kImages;
  for (const engine::Param& p : e.params.params()) {
    const float* g = e.params.grad(p.weight);
    result.gradients[p.name] = Values(g, g + p.stored());
  }
  return result;
}

test::TwinResult run_twin(Engine& e, const Batch& batch, const Plan& plan) {
  test::Weights weights;
  for (const engine::Param& p : e.params.params()) {
    const float* w = e.params.data(p.weight);
    weights[p.name] = Values(w, w + p.stored());
  }
  std::vector<float> pixels(static_cast<std::size_t>(kImages) * kResolution * kResolution * 4);
  kernels::Image image;
  image.pixels = batch.pixels;
  image.crops = batch.crops.data();
  image.out = {pixels.data(), DType::f32, kImages, kResolution, kResolution, 4};
  kernels::image(e.device.stream(), image);
  return test::masked_twin(plan, weights, Values(pixels.begin(), pixels.end()), batch.labels, {});
}

void expect_equal(const test::TwinResult& got, const test::TwinResult& want, double tolerance) {
  EXPECT_LT(test::relative_error(got.logits, want.logits), 2e-4);
  EXPECT_NEAR(got.loss, want.loss, 1e-4 * std::abs(want.loss));
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  double squares = 0;
  for (const auto& [name, g] : want.gradients) {
    for (const double v : g) squares += v * v;
  }
  const double typical = std::sqrt(squares / static_cast<double>(want.gradients.size()));
  for (const auto& [name, g] : want.gradients) {
    const Values& mine = got.gradients.at(name);
    ASSERT_EQ(mine.size(), g.size()) << name;
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      error += (mine[i] - g[i]) * (mine[i] - g[i]);
      norm += g[i] * g[i];
    }
    // Gradients that cancel (a shift before a norm) are rounding on both sides: held against the
    // typical gradient, not against themselves.
    EXPECT_LT(std::sqrt(error), tolerance * (std::sqrt(norm) + 0.02 * typical)) << name;
  }
}

/// Random choices; each decision is in its warm-up state with probability 1/3 if `warm`.
Arch random_arch(const Space& space, std::uint32_t which, bool warm) {
  Arch arch;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const Random4 r = philox({6, Purpose::test, which, 0}, d);
    const int options = static_cast<int>(space.decisions[d].options.size());
    int value = static_cast<int>(r.v[0] % static_cast<std::uint32_t>(options));
    if (warm && r.v[1] % 3 == 0) {
      value = space.decisions[d].tag == Tag::filters ? options - 1 : options > 1 ? kAll : value;
    }
    arch.values.push_back(static_cast<std::int8_t>(value));
  }
  return arch;
}

/// Sampled architectures, warm-up states and the largest state of `space`.
void compare(const Space& space, const SupernetConfig& config, double tolerance) {
  Engine e(space, config);
  const SyntheticBatch data(kImages, kResolution, e.space.classes);
  std::vector<Arch> archs = {Arch::largest(e.space)};
  for (std::uint32_t which = 0; which < 2; ++which) {
    archs.push_back(random_arch(e.space, which, false));
    archs.push_back(random_arch(e.space, which, true));
  }
  for (const Arch& arch : archs) {
    SCOPED_TRACE(arch.indices());
    const Plan plan = e.supernet.plan(arch);
    expect_equal(run(e, data.batch, plan), run_twin(e, data.batch, plan), tolerance);
  }
}

class SupernetEqualsTheMaskedTwin : public testing::TestWithParam<const char*> {};

TEST_P(SupernetEqualsTheMaskedTwin, ForSampledArchitecturesAndWarmUpStates) {
  SupernetConfig config;
  config.resolution = kResolution;
  for (const bool smooth : {true, false}) {
    Space space = Space::named(GetParam()).scaled(0.125).small_images();
    // Through twenty norms of few samples, one relu that falls on the other side of 0 in float
    // moves gradients by percents: the tight comparison uses a smooth activation.
    for (Block& block : space.blocks) {
      for (Layer& layer : block.layers) layer.act = smooth ? Act::sigmoid : layer.act;
    }
    compare(space, config, smooth ? 1e-3 : 0.2);
  }
}

INSTANTIATE_TEST_SUITE_P(Spaces, SupernetEqualsTheMaskedTwin,
                         testing::Values("proxylessnas_search", "proxylessnas_enlarged_search",
                                         "mobilenet_v3_like_search"));

TEST(Supernet, RefusesSpacesItCannotBe) {
  engine::ParamStore params;
  Space space = Space::named("mobilenet_v2");
  space.blocks[0].layers.erase(space.blocks[0].layers.begin());
  space.number_decisions();
  EXPECT_THROW(Supernet(space, params, {}), Error);
}

}  // namespace
}  // namespace tunas::search
