#include "search/arch.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "search/locate.h"
#include "tests/support/golden.h"

namespace tunas::search {
namespace {

Space tiny() {
  return Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/tiny.json");
}

std::string parse_error(const std::string& indices) {
  try {
    Arch::parse(indices, tiny());
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "no Error for " << indices;
  return "";
}

TEST(Arch, IndicesInAndOut) {
  const std::string text = "0:1:0:1:1:0:0:1:5";
  EXPECT_EQ(Arch::parse(text, tiny()).indices(), text);
  EXPECT_EQ(Arch::largest(tiny()).indices(), "0:1:all:all:all:all:all:1:5");
}

TEST(Arch, ParseErrorsNameWhatIsWrong) {
  EXPECT_NE(parse_error("0:1:0").find("3 values, but tiny has 9 decisions"), std::string::npos);
  EXPECT_NE(parse_error("").find("1 values"), std::string::npos);
  for (const char* bad : {"2", "-1", "x", "", "all", "1.0", " 1", "99999999999"}) {
    const std::string sentence = parse_error(std::string("0:") + bad + ":0:0:0:0:0:0:0");
    EXPECT_NE(sentence.find("position 1: '" + std::string(bad) + "'"), std::string::npos)
        << sentence;
    EXPECT_NE(sentence.find("0 to 1"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("blocks/1/layers/0/expansion_filters"), std::string::npos) << sentence;
  }
}

TEST(Arch, CheckRefusesWhatDoesNotFit) {
  Arch arch = Arch::largest(tiny());
  EXPECT_NO_THROW(check(tiny(), arch));
  arch.values[7] = kAll;  // filters cannot be averaged
  EXPECT_THROW(check(tiny(), arch), Error);
  arch.values[7] = 2;
  EXPECT_THROW(check(tiny(), arch), Error);
  arch.values.pop_back();
  EXPECT_THROW(resolve(tiny(), arch, 32), Error);
}

TEST(Arch, MaskIsOneHotOrUniform) {
  const Space space = Space::named("mobilenet_v3_like_search");
  Arch arch = Arch::largest(space);
  EXPECT_EQ(mask(space, arch, 1, 2), 1.0 / 3);
  EXPECT_EQ(mask(space, arch, 2, 1), 0.5);
  arch.values[1] = 2;
  EXPECT_EQ(mask(space, arch, 1, 2), 1);
  EXPECT_EQ(mask(space, arch, 1, 0), 0);
  EXPECT_EQ(mask(space, arch, kFixed, 0), 1);
}

TEST(Plan, WidthsFollowTheActiveInput) {
  const Space space = tiny();
  //                  expansion 3.5, kernels 7 and 5, second separable skipped, widths 24 and 16
  const Arch arch = Arch::parse("0:1:1:1:0:0:1:1:0", space);
  const Plan plan = resolve(space, arch, 32);
  ASSERT_EQ(plan.layers.size(), 9u);
  const PlanLayer& first = plan.layers[2];
  EXPECT_EQ(first.c_in, (Width{16, 16}));
  EXPECT_EQ(first.c_exp, (Width{56, 56}));
  EXPECT_EQ(first.c_out, (Width{24, 24}));
  EXPECT_EQ(first.squeeze_excite, 0);
  EXPECT_EQ(first.c_hidden, Width{});
  EXPECT_EQ(first.in_resolution, 16);
  EXPECT_EQ(first.out_resolution, 8);
  const PlanLayer& gated = plan.layers[3];
  EXPECT_EQ(gated.c_exp, (Width{96, 96}));
  EXPECT_EQ(gated.c_hidden, (Width{24, 24}));
  EXPECT_EQ(gated.squeeze_excite, 1);
  ASSERT_EQ(gated.kernels.size(), 1u);
  EXPECT_EQ(gated.kernels[0].k, 7);
  EXPECT_EQ(gated.kernels[0].option, 1);
  EXPECT_EQ(plan.layers[4].keep, 1);
  EXPECT_EQ(plan.layers[5].keep, 0);
  EXPECT_EQ(plan.layers[8].out_resolution, 1);
  EXPECT_EQ(plan.c_head, (Width{64, 16}));

  const Plan narrow = resolve(space, Arch::parse("0:0:0:0:0:0:0:0:0", space), 32);
  EXPECT_EQ(narrow.layers[2].c_exp, (Width{56, 32}));
  EXPECT_EQ(narrow.layers[3].c_exp, (Width{96, 64}));
  EXPECT_EQ(narrow.layers[3].c_hidden, (Width{24, 16}));
}

TEST(Plan, OddResolutionsRoundUp) {
  const Space space = Space::named("mobilenet_v2");
  const Plan plan = resolve(space, Arch::largest(space), 40);
  std::vector<int> sizes;
  for (const PlanLayer& layer : plan.layers) {
    if (layer.spec->stride == 2) sizes.push_back(layer.out_resolution);
  }
  EXPECT_EQ(sizes, (std::vector<int>{20, 10, 5, 3, 2}));
}

/// With every option enabled the counts are the mean over the options, decision by decision.
TEST(Counts, FractionalStatesAreMeans) {
  const Space space = tiny();
  Arch arch = Arch::largest(space);
  const Counts all = count(resolve(space, arch, 32));
  double params = 0, macs = 0;
  int states = 0;
  for (int i = 0; i < 32; ++i) {
    for (int bit = 0; bit < 5; ++bit) {
      arch.values[static_cast<std::size_t>(2 + bit)] = static_cast<std::int8_t>(i >> bit & 1);
    }
    const Counts one = count(resolve(space, arch, 32));
    params += one.params();
    macs += one.macs;
    ++states;
  }
  EXPECT_NEAR(all.params(), params / states, 1e-6 * params / states);
  EXPECT_NEAR(all.macs, macs / states, 1e-6 * macs / states);
}

TEST(Counts, SmallNetworkByHand) {
  const Space space = tiny();
  const Plan plan = resolve(space, Arch::parse("0:0:0:0:1:0:1:0:0", space), 32);
  const Counts stem = count(plan.layers[0]);
  EXPECT_EQ(stem.kernels, 3 * 3 * 3 * 16);
  EXPECT_EQ(stem.norms, 2 * 16);
  EXPECT_EQ(stem.macs, 3 * 3 * 3 * 16 * 16 * 16);
  const Counts gated = count(plan.layers[3]);  // 16 -> 64 -> 16 at 8 x 8, hidden 16
  EXPECT_EQ(gated.kernels, 16 * 64 + 9 * 64 + 2 * 64 * 16 + 64 * 16);
  EXPECT_EQ(gated.biases, 64 + 16);
  EXPECT_EQ(gated.norms, 2 * (64 + 64 + 16));
  EXPECT_EQ(gated.macs, 64 * (16 * 64 + 9 * 64 + 64 * 16) + 2 * 64 * 16);
  EXPECT_EQ(count(plan.layers[4]).params(), 0);  // skipped
}

TEST(ArchGolden, ReferenceNetworksCountExactly) {
  const auto networks = test::read_golden("reference_architectures.json")["architectures"];
  for (const auto& [name, golden] : networks.items()) {
    Space space = Space::named(name);
    const Counts counts = count(resolve(space, Arch::largest(space), 224));
    EXPECT_EQ(counts.kernels, golden["params_kernels"].get<double>()) << name;
    EXPECT_EQ(counts.biases, golden["params_bias"].get<double>()) << name;
    EXPECT_EQ(counts.norms, golden["params_bn"].get<double>()) << name;
    EXPECT_EQ(counts.params(), golden["params"].get<double>()) << name;
    EXPECT_EQ(counts.macs, golden["macs"].get<double>()) << name;
    space.classes = 1000;
    EXPECT_EQ(count(resolve(space, Arch::largest(space), 224)).params(),
              golden["params_1000_classes"].get<double>());
    if (!golden.contains("in_spaces")) continue;
    for (const auto& [within, entry] : golden["in_spaces"].items()) {
      const Location location = locate(Space::named(name), Space::named(within));
      ASSERT_TRUE(location.arch) << location.reason;
      EXPECT_EQ(location.arch->indices(), entry["indices"].get<std::string>());
    }
  }
}

TEST(ArchGolden, RandomArchitecturesCountExactly) {
  const auto spaces = test::read_golden("params_macs_random.json")["spaces"];
  for (const auto& [name, list] : spaces.items()) {
    const Space space = Space::named(name);
    for (const auto& golden : list) {
      const std::string indices = golden["indices"];
      const Counts counts = count(resolve(space, Arch::parse(indices, space), 224));
      EXPECT_EQ(counts.kernels, golden["params_kernels"].get<double>()) << indices;
      EXPECT_EQ(counts.biases, golden["params_bias"].get<double>()) << indices;
      EXPECT_EQ(counts.norms, golden["params_bn"].get<double>()) << indices;
      EXPECT_EQ(counts.macs, golden["macs"].get<double>()) << indices;
    }
  }
}

}  // namespace
}  // namespace tunas::search
