// Architectures as net.config: what is read, what is written, and what is refused.
#include "search/net_config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/arch.h"
#include "tests/support/shared_data.h"

namespace tunas::search {
namespace {

using Json = nlohmann::ordered_json;

/// The once-for-all network of the golden file: every kind of layer the format has.
Json once_for_all() {
  std::ifstream in(TUNAS_SOURCE_DIR "/tests/golden/foreign.json");
  return Json::parse(in)["models"]["ofa/mobilenet_v3 conv"]["net_config"];
}

/// Equal but for what the format does not say.
void expect_same(Space a, const Space& b) {
  for (Block& block : a.blocks) {
    std::erase_if(block.layers, [](const Layer& l) { return l.kind == LayerKind::endpoint; });
    for (Layer& layer : block.layers) layer.shared_pointwise = true;
  }
  a.number_decisions();
  EXPECT_EQ(a.blocks, b.blocks) << a.json() << b.json();
  EXPECT_EQ(a.resolution, b.resolution);
  EXPECT_EQ(a.classes, b.classes);
  EXPECT_EQ(a.bn_epsilon, b.bn_epsilon);
  EXPECT_EQ(a.dropout, b.dropout);
}

TEST(NetConfig, LayersAreRead) {
  const std::string text = once_for_all().dump();
  EXPECT_TRUE(is_net_config(text));
  EXPECT_FALSE(is_net_config("[1]"));
  EXPECT_FALSE(is_net_config("{"));
  EXPECT_FALSE(is_net_config(Space::named("mobilenet_v2").json()));
  const Space net = parse_net_config(text, "f");
  EXPECT_EQ(net.padding, Padding::symmetric);
  EXPECT_EQ(net.bn_epsilon, 1e-5);
  EXPECT_EQ(net.resolution, 72);
  EXPECT_EQ(net.classes, 24);
  EXPECT_EQ(net.dropout, 0.1);
  const Plan plan = resolve(net, Arch::largest(net), 72);
  std::vector<int> expanded, hidden;
  for (const PlanLayer& layer : plan.layers) {
    if (layer.spec->kind == LayerKind::bottleneck) expanded.push_back(layer.c_exp.now);
    if (layer.squeeze_excite > 0) hidden.push_back(layer.c_hidden.now);
  }
  EXPECT_EQ(expanded, (std::vector<int>{64, 72, 96, 104})) << "the ZeroLayer is gone";
  EXPECT_EQ(hidden, (std::vector<int>{24, 24, 24}));
  EXPECT_EQ(net.blocks[0].layers[2].kind, LayerKind::separable);
  EXPECT_TRUE(net.blocks[0].layers[2].residual);
  EXPECT_EQ(net.blocks.back().layers[0].batch_norm, false);
}

TEST(NetConfig, WhatIsWrittenReadsBackTheSame) {
  for (const char* name : {"mobilenet_v2", "mnasnet_b1", "proxylessnas_mobile",
                           "mobilenet_v3_large", "mobilenet_multi_avg", "mobilenet_multi_max"}) {
    Space net = Space::named(name);
    for (Block& block : net.blocks) {
      for (Layer& layer : block.layers) {
        if (layer.kind == LayerKind::bottleneck && layer.squeeze_excite[0] == 1) {
          layer.gate = Act::hard_sigmoid;
        }
      }
    }
    expect_same(net, parse_net_config(net_config(net), name));
  }
}

TEST(NetConfig, PublishedArchitectureAndItsCounts) {
  TUNAS_NEED_SHARED(weights, "weights");
  const std::string file = weights + "/proxyless-w0.3-r176_arch.json";
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const Space net = parse_net_config(text, file);
  EXPECT_EQ(net.resolution, 176);
  EXPECT_EQ(net.classes, 1000);
  EXPECT_EQ(net.bn_epsilon, 1e-3);
  expect_same(net, parse_net_config(net_config(net), file));
  // The layers that compute are those of the file, value by value.
  const Json before = Json::parse(text), after = Json::parse(net_config(net));
  std::vector<Json> kept;
  for (const Json& block : before["blocks"]) {
    if (block["mobile_inverted_conv"]["name"] != "ZeroLayer") kept.push_back(block);
  }
  ASSERT_EQ(after["blocks"].size(), kept.size());
  for (std::size_t b = 0; b < kept.size(); ++b) EXPECT_EQ(after["blocks"][b], kept[b]) << b;
  for (const char* key : {"first_conv", "feature_mix_layer", "classifier"}) {
    EXPECT_EQ(after[key], before[key]) << key;
  }
}

TEST(NetConfig, WhatCannotRunHereIsRefusedByPlace) {
  const auto refused = [](const Json& config, const std::vector<std::string>& parts) {
    try {
      parse_net_config(config.dump(), "net.json");
      ADD_FAILURE() << parts[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      const std::string sentence = error.what();
      EXPECT_EQ(sentence.rfind("net.json", 0), 0u) << sentence;
      for (const std::string& part : parts) {
        EXPECT_NE(sentence.find(part), std::string::npos) << part << "\nin " << sentence;
      }
    }
  };
  const auto changed = [](const char* at, const Json& value) {
    Json config = once_for_all();
    config[Json::json_pointer(at)] = value;
    return config;
  };
  refused(changed("/blocks/4/mobile_inverted_conv/expand_ratio", 4.2),
          {"blocks/4/mobile_inverted_conv", "its expansion has 101 channels", "multiples of 8"});
  refused(changed("/first_conv/out_channels", 12), {"first convolution", "12"});
  refused(changed("/blocks/3/mobile_inverted_conv/kernel_size", 9), {"kernel is 9"});
  refused(changed("/blocks/3/mobile_inverted_conv/in_channels", 16), {"in_channels is 16", "24"});
  refused(changed("/blocks/3/mobile_inverted_conv/name", "ResNetBottleneckBlock"),
          {"blocks/3", "ResNetBottleneckBlock"});
  refused(changed("/blocks/3/mobile_inverted_conv/act_func", "swish"), {"\"swish\" is unknown"});
  refused(changed("/blocks/3/mobile_inverted_conv/groups", 2), {"groups"});
  refused(changed("/blocks/1/shortcut", once_for_all()["blocks"][3]["shortcut"]),
          {"blocks/1", "stride 2"});
  refused(changed("/blocks/0/mobile_inverted_conv/use_se", true), {"blocks/0", "expansion"});
  refused(changed("/final_expand_layer/kernel_size", 3), {"final_expand_layer", "1 x 1"});
  refused(changed("/first_conv/ops_order", "bn_act_weight"), {"ops_order"});
  refused(changed("/blocks", 3), {"blocks is not a list"});
  refused(changed("/blocks/0", 3), {"blocks/0", "not an object"});
  refused(changed("/classifier/out_features", "many"), {"out_features", "\"many\""});
  Json none = once_for_all();
  none.erase("classifier");
  refused(none, {"\"classifier\" is missing"});
}

TEST(NetConfig, WhatTheFormatHasNoWordsForIsRefused) {
  EXPECT_THROW(net_config(Space::named("mobilenet_v3_large")), Error) << "sigmoid gates";
}

}  // namespace
}  // namespace tunas::search
