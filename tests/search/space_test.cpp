#include "search/space.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "kernels/error.h"
#include "search/arch.h"
#include "search/locate.h"
#include "search/nearest_name.h"
#include "search/random_search.h"
#include "tests/support/golden.h"

namespace tunas::search {
namespace {

Space test_space(const std::string& name) {
  return Space::load(std::string(TUNAS_SOURCE_DIR) + "/tests/search/spaces/" + name + ".json");
}

/// The sentence of the Error that `call` throws.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.what();
  }
  ADD_FAILURE() << "no Error";
  return "";
}

/// The Error of a space whose JSON has one text replaced by another.
std::string error_with(const std::string& text, const std::string& replacement) {
  std::string json = test_space("tiny").json();
  const std::size_t at = json.find(text);
  EXPECT_NE(at, std::string::npos) << text;
  json.replace(at, text.size(), replacement);
  return error_of([&] { Space::parse(json, "mine.json"); });
}

void expect_parts(const std::string& sentence, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(sentence.find(part), std::string::npos) << "'" << part << "' not in: " << sentence;
  }
}

TEST(Space, NamesSearchSpacesFirst) {
  const std::vector<std::string> names = Space::names();
  ASSERT_EQ(names.size(), 9u);
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(Space::is_search_space(names[i]), i < 3) << names[i];
    EXPECT_EQ(Space::named(names[i]).name, names[i]);
  }
}

TEST(Space, UnknownNameSuggestsTheNearest) {
  expect_parts(error_of([] { Space::named("mobilnet_v2"); }), {"'mobilnet_v2'", "mobilenet_v2"});
}

TEST(Space, EditDistanceCountsSwapsOnce) {
  EXPECT_EQ(edit_distance("kernel", "kernel"), 0);
  EXPECT_EQ(edit_distance("kenrel", "kernel"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("stride", "strife"), 1);
}

TEST(Space, JsonReadsBackTheSame) {
  for (const std::string& name : Space::names()) {
    const Space space = Space::named(name);
    EXPECT_EQ(Space::parse(space.json(), "again"), space) << name;
  }
  for (const char* name : {"tiny", "doubling_search"}) {
    const Space space = test_space(name);
    EXPECT_EQ(Space::parse(space.json(), "again"), space) << name;
  }
}

TEST(Space, PaddingAndEpsilonReadBackWhereTheyAreNotAsPublished) {
  Space space = Space::named("mobilenet_v2");
  EXPECT_EQ(space.json().find("padding"), std::string::npos);
  space.padding = Padding::symmetric;
  space.bn_epsilon = 1e-5;
  EXPECT_EQ(Space::parse(space.json(), "here"), space);
  const Space alone = space.only(Arch::largest(space));
  EXPECT_EQ(alone.padding, Padding::symmetric);
  EXPECT_EQ(alone.bn_epsilon, 1e-5);
  const std::string json = space.json();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = json;
    return changed.replace(changed.find(from), from.size(), to);
  };
  EXPECT_THROW(Space::parse(with("symmetric", "valid"), "here"), Error);
  EXPECT_THROW(Space::parse(with("1e-05", "0"), "here"), Error);
}

TEST(Space, UserSpaceTakesPositionsForChoicesOnly) {
  const Space tiny = test_space("tiny");
  std::vector<std::string> paths;
  for (const Decision& d : tiny.decisions) paths.push_back(d.path);
  const std::vector<std::string> expected = {"blocks/0/filters",
                                             "blocks/1/layers/0/expansion_filters",
                                             "blocks/1/layers/1/layer/kernel_size",
                                             "blocks/1/layers/2/layer/choices/0/kernel_size",
                                             "blocks/1/layers/2/layer",
                                             "blocks/1/layers/3/layer/choices/0/kernel_size",
                                             "blocks/1/layers/3/layer",
                                             "blocks/1/filters",
                                             "blocks/2/filters"};
  EXPECT_EQ(paths, expected);
  EXPECT_EQ(tiny.decisions[1].options, (std::vector<std::string>{"2x", "3.5x"}));
  EXPECT_EQ(tiny.decisions[4].options, (std::vector<std::string>{"keep", "skip"}));
  EXPECT_EQ(tiny.classes, 10);
  EXPECT_EQ(tiny.count(), "768");           // 1 * 2 * 2 * (2*2)^2 * 2 * 6
  EXPECT_EQ(tiny.count_distinct(), "432");  // 1 * 2 * 2 * (2+1)^2 * 2 * 6
}

TEST(Space, DoublingVariantHasTheDecisionsOfItsModel) {
  const Space space = test_space("doubling_search");
  EXPECT_EQ(space.decisions.size(), 86u);
  int base = 16;
  for (const Block& block : space.blocks) {
    EXPECT_EQ(block.filters, filter_choices(base));
    base *= 2;
  }
  const Plan plan = resolve(space, Arch::largest(space), 224);
  EXPECT_EQ(plan.c_head, (Width{4096, 4096}));
}

TEST(Space, ErrorsNamePlaceValueAndFix) {
  expect_parts(error_with("\"kernel\": 5", "\"kernal\": 5"),
               {"mine.json: blocks/1/layers/0", "\"kernal\"", "\"kernel\"", "op bottleneck"});
  expect_parts(error_with("\"classes\"", "\"clases\""), {"mine.json", "\"clases\"", "\"classes\""});
  expect_parts(error_with("\"filters\"", "\"filter\""),
               {"mine.json: blocks/0", "\"filter\"", "\"filters\""});
  expect_parts(error_with("\"op\": \"separable\"", "\"op\": \"seperable\""),
               {"blocks/1/layers/2", "seperable", "\"separable\""});
  expect_parts(error_with("\"relu6\"", "\"relu7\""), {"blocks/0/layers/1", "relu7", "\"relu\""});
  expect_parts(error_with("\"kernel\": 5", "\"kernel\": 4"), {"kernel is 4", "3, 5 or 7"});
  expect_parts(error_with("\"kernel\": 5", "\"kernel\": \"five\""), {"\"five\"", "integer"});
  expect_parts(error_with("\"kernel\": [3, 7]", "\"kernel\": [7, 3]"), {"lists 3 after 7"});
  expect_parts(error_with("\"filters\": 16", "\"filters\": 12"),
               {"filters is 12", "multiple of 8"});
  expect_parts(error_with("\"stride\": 2", "\"stride\": 3"), {"stride is 3"});
  expect_parts(error_with("\"classes\": 10", "\"classes\": 1e999"), {"too large"});
  expect_parts(error_with(", \"residual\": true, \"skippable\"", ", \"skippable\""),
               {"blocks/1/layers/2", "\"residual\": true"});
  expect_parts(error_with("\"gate\": \"hard_sigmoid\"", "\"gate\": \"relu\""), {"gate must be"});
  expect_parts(error_with("{\"op\": \"global_pool\"}", "{\"op\": \"endpoint\"}"), {"global_pool"});
  expect_parts(error_with("\"resolution\": 32", "\"resolution\": 33"), {"resolution is 33"});
  expect_parts(error_with("\"op\": \"conv\", \"kernel\": 1", "\"op\": \"conv\", \"kernel\": 3"),
               {"blocks/2/layers/0", "kernel 1"});
  expect_parts(error_with("\"classes\": 10,", "\"classes\": 10"), {"line 5", "not valid JSON"});
  expect_parts(error_of([] { Space::load("no/such.json"); }), {"no/such.json"});
}

TEST(Space, RoundingHalvesGoUp) {
  EXPECT_EQ(round_filters(20, 1), 24);
  EXPECT_EQ(round_filters(3, 1), 8);
  EXPECT_EQ(round_filters(80, 2.3), 184);
  EXPECT_EQ(make_divisible(0.25 * 72), 24);
  EXPECT_EQ(make_divisible(0.25 * 8), 8);
}

TEST(Space, OnlyResolvesToTheSameWidths) {
  std::vector<Space> spaces = {test_space("tiny"), test_space("doubling_search")};
  for (int i = 0; i < 3; ++i) spaces.push_back(Space::named(Space::names()[i]));
  for (const Space& space : spaces) {
    for (std::uint64_t draw = 0; draw < 50; ++draw) {
      const Arch arch = random_arch(space, 1, draw);
      const Space network = space.only(arch);
      EXPECT_EQ(network.count(), "1");
      EXPECT_EQ(Space::parse(network.json(), "network"), network);
      const Plan wide = resolve(space, arch, 64);
      const Plan own = resolve(network, Arch::largest(network), 64);
      EXPECT_EQ(count(wide).params(), count(own).params());
      EXPECT_EQ(count(wide).macs, count(own).macs);
      std::size_t at = 0;
      for (const PlanLayer& layer : wide.layers) {
        if (layer.keep == 0) continue;
        ASSERT_LT(at, own.layers.size());
        const PlanLayer& twin = own.layers[at++];
        for (const auto width : {&PlanLayer::c_in, &PlanLayer::c_exp, &PlanLayer::c_out}) {
          EXPECT_EQ((twin.*width).now, (layer.*width).now);
          EXPECT_EQ((twin.*width).max, (twin.*width).now);
        }
        // A hidden width exists only where squeeze-and-excite is on.
        EXPECT_EQ(twin.c_hidden.now, layer.squeeze_excite > 0 ? layer.c_hidden.now : 0);
        EXPECT_EQ(twin.out_resolution, layer.out_resolution);
        EXPECT_EQ(twin.squeeze_excite, layer.squeeze_excite);
      }
      EXPECT_EQ(at, own.layers.size());
    }
  }
}

TEST(Space, OnlyRefusesAveragedDecisions) {
  const Space space = Space::named("proxylessnas_search");
  expect_parts(error_of([&] { space.only(Arch::largest(space)); }),
               {"decision 1", "blocks/1/layers/0"});
}

TEST(Space, LocateInvertsOnly) {
  for (int i = 0; i < 3; ++i) {
    const Space space = Space::named(Space::names()[static_cast<std::size_t>(i)]);
    for (std::uint64_t draw = 0; draw < 50; ++draw) {
      const Space network = space.only(random_arch(space, 2, draw));
      const Location location = locate(network, space);
      ASSERT_TRUE(location.arch) << location.reason;
      Space again = space.only(*location.arch);
      EXPECT_EQ(again.blocks, network.blocks);
    }
  }
}

TEST(Space, LocateSaysWhyNot) {
  const Space v3 = Space::named("mobilenet_v3_large");
  EXPECT_EQ(locate(v3, Space::named("mobilenet_v3_like_search")).reason,
            "block 3 offers no place for its layer 1");
  EXPECT_EQ(locate(v3, Space::named("proxylessnas_search")).reason, "it has 8 blocks, not 9");
  EXPECT_EQ(locate(Space::named("mobilenet_v2"), Space::named("proxylessnas_search")).reason,
            "block 2 has 24 filters, which is no option there");
}

TEST(Space, ScaledRoundsAndMerges) {
  const Space space = test_space("tiny").scaled(0.5);
  EXPECT_EQ(space.blocks[0].filters, (std::vector<int>{8}));
  EXPECT_EQ(space.blocks[1].filters, (std::vector<int>{8, 16}));
  EXPECT_EQ(space.blocks[2].filters, (std::vector<int>{8, 16, 24, 32}));
  EXPECT_EQ(space.decisions.back().options.size(), 4u);
  EXPECT_EQ(space.name, "tiny, width 0.5");
  EXPECT_EQ(test_space("tiny").scaled(1), test_space("tiny"));
}

TEST(Space, SmallImagesKeepTwiceTheResolutionTwice) {
  const Space space = Space::named("mobilenet_v3_like_search");
  const Arch arch = Arch::largest(space);
  EXPECT_EQ(resolve(space, arch, 32).layers[4].out_resolution, 8);
  const Plan plan = resolve(space.small_images(), arch, 32);
  EXPECT_EQ(plan.layers[0].out_resolution, 32);
  EXPECT_EQ(plan.layers[4].out_resolution, 32);
  EXPECT_EQ(plan.layers[9].out_resolution, 16);
}

TEST(SpaceGolden, RoundingCases) {
  const auto values = test::read_golden("unit_values.json");
  for (const auto& c : values["scale_filters"]["cases"]) {
    EXPECT_EQ(round_filters(c["filters"], c["multiplier"], c["base"]), c["result"].get<int>()) << c;
  }
  for (const auto& c : values["make_divisible"]["cases"]) {
    EXPECT_EQ(make_divisible(c["value"], c["divisor"]), c["result"].get<int>()) << c;
  }
  for (const auto& [base, choices] : values["filter_choices"].items()) {
    EXPECT_EQ(filter_choices(std::stoi(base)), choices.get<std::vector<int>>()) << base;
  }
}

TEST(SpaceGolden, SizesAreExact) {
  const auto sizes = test::read_golden("unit_values.json")["space_sizes"];
  for (int i = 0; i < 3; ++i) {
    const Space space = Space::named(Space::names()[static_cast<std::size_t>(i)]);
    EXPECT_EQ(space.count(), sizes["raw_product_of_all_decisions"][space.name].get<std::string>());
    EXPECT_EQ(space.count_distinct(),
              sizes["distinct_architectures"][space.name].get<std::string>());
  }
}

TEST(SpaceGolden, DecisionsHavePublishedPathsTagsAndOptions) {
  for (int i = 0; i < 3; ++i) {
    const Space space = Space::named(Space::names()[static_cast<std::size_t>(i)]);
    // The published ones: cost_model_test.cpp holds the shipped file to a digest.
    std::ifstream file(TUNAS_SOURCE_DIR "/search/latency/" + space.name + ".json");
    const auto decisions = nlohmann::json::parse(file)["decisions"];
    ASSERT_EQ(decisions.size(), space.decisions.size());
    for (std::size_t d = 0; d < decisions.size(); ++d) {
      EXPECT_EQ(space.decisions[d].path, decisions[d]["path"].get<std::string>());
      EXPECT_EQ(space.decisions[d].tag == Tag::filters, decisions[d]["tag"] == "filters") << d;
      EXPECT_EQ(space.decisions[d].options.size(), decisions[d]["choices"].size()) << d;
    }
    for (const Block& block : space.blocks) {
      const auto d = static_cast<std::size_t>(block.filters_decision);
      EXPECT_EQ(block.filters, decisions[d]["choices"].get<std::vector<int>>());
    }
  }
}

}  // namespace
}  // namespace tunas::search
