// timm's block strings: its own definitions are our reference networks, what is written reads back
// the same, and what cannot run here is refused by place.
#include "search/block_strings.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/arch.h"

namespace tunas::search {
namespace {

using Json = nlohmann::ordered_json;

// arch_def of timm/models/efficientnet.py and mobilenetv3.py.
const Json kV2 = {{"ds_r1_k3_s1_c16"},    {"ir_r2_k3_s2_e6_c24"}, {"ir_r3_k3_s2_e6_c32"},
                  {"ir_r4_k3_s2_e6_c64"}, {"ir_r3_k3_s1_e6_c96"}, {"ir_r3_k3_s2_e6_c160"},
                  {"ir_r1_k3_s1_e6_c320"}};
const Json kMnas = {{"ds_r1_k3_s1_c16_noskip"},    {"ir_r3_k3_s2_e3_c24"}, {"ir_r3_k5_s2_e3_c40"},
                    {"ir_r3_k5_s2_e6_c80"},        {"ir_r2_k3_s1_e6_c96"}, {"ir_r4_k5_s2_e6_c192"},
                    {"ir_r1_k3_s1_e6_c320_noskip"}};
const Json kV3 = {{"ds_r1_k3_s1_e1_c16_nre"},
                  {"ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"},
                  {"ir_r3_k5_s2_e3_c40_se0.25_nre"},
                  {"ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"},
                  {"ir_r2_k3_s1_e6_c112_se0.25"},
                  {"ir_r3_k5_s2_e6_c160_se0.25"},
                  {"cn_r1_k1_s1_c960"}};

Json v3() {
  return {{"model", "MobileNetV3"}, {"name", "v3"},         {"stem_size", 16},
          {"arch_def", kV3},        {"num_features", 1280}, {"act_layer", "hard_swish"}};
}

/// The reference network without markers, with timm's activations, gates and conventions.
Space reference(const char* name, Act relu) {
  Space net = Space::named(name);
  net.classes = 1000;
  net.dropout = 0;
  net.padding = Padding::symmetric;
  net.bn_epsilon = 1e-5;
  for (Block& block : net.blocks) {
    std::erase_if(block.layers, [](const Layer& l) { return l.kind == LayerKind::endpoint; });
    for (Layer& layer : block.layers) {
      if (layer.act == Act::relu) layer.act = relu;
      const bool gated = layer.kind == LayerKind::bottleneck && layer.squeeze_excite[0] == 1;
      if (gated) layer.gate = Act::hard_sigmoid;
    }
  }
  net.number_decisions();
  return net;
}

/// The acts of layers that have none are of no account, nor is what widths are rounded to where all
/// are given; how the network was trained is not in the strings.
Space plain(Space net) {
  for (Block& block : net.blocks) {
    for (Layer& layer : block.layers) {
      const bool acts = layer.kind == LayerKind::activation || layer.kind == LayerKind::separable ||
                        layer.kind == LayerKind::bottleneck;
      if (!acts) layer.act = Act::relu;
    }
  }
  net.name = "";
  net.divisor = 8;
  net.weight_decay = 0;
  return net;
}

TEST(BlockStrings, TimmsNetworksAreOurs) {
  const Json v2 = {{"model", "EfficientNet"}, {"arch_def", kV2}, {"act_layer", "relu6"}};
  const Json mnas = {{"model", "EfficientNet"}, {"arch_def", kMnas}};
  EXPECT_TRUE(is_block_strings(v2.dump()));
  EXPECT_FALSE(is_block_strings("{}"));
  EXPECT_FALSE(is_block_strings("x"));
  EXPECT_EQ(plain(parse_block_strings(v2.dump(), "f")),
            plain(reference("mobilenet_v2", Act::relu6)));
  EXPECT_EQ(plain(parse_block_strings(mnas.dump(), "f")),
            plain(reference("mnasnet_b1", Act::relu)));
  EXPECT_EQ(plain(parse_block_strings(v3().dump(), "f")),
            plain(reference("mobilenet_v3_large", Act::relu)));
}

TEST(BlockStrings, OursAreTimms) {
  const Json written = Json::parse(block_strings(reference("mobilenet_v3_large", Act::relu)));
  Json wanted = v3();
  EXPECT_EQ(written["arch_def"], wanted["arch_def"]);
  for (const char* key : {"model", "stem_size", "num_features", "act_layer"}) {
    EXPECT_EQ(written[key], wanted[key]) << key;
  }
  EXPECT_EQ(written["se_gate"], "hard_sigmoid");
  EXPECT_EQ(written["pad_type"], "");
  const Json mnas = Json::parse(block_strings(reference("mnasnet_b1", Act::relu)));
  EXPECT_EQ(mnas["arch_def"][5], Json({"ir_r4_k5_s2_e6_c192"}));
  EXPECT_EQ(Json::parse(block_strings(Space::named("mnasnet_b1")))["pad_type"], "same");
}

TEST(BlockStrings, WhatIsWrittenReadsBackTheSame) {
  for (const char* name : {"mobilenet_v2", "mnasnet_b1", "proxylessnas_mobile",
                           "mobilenet_v3_large", "mobilenet_multi_avg", "mobilenet_multi_max"}) {
    const Space net = reference(name, Act::relu);
    EXPECT_EQ(plain(parse_block_strings(block_strings(net), name)), plain(net)) << name;
  }
  // Widths whose ratio is no short number; a layer that keeps its width and does not add.
  Json odd = v3();
  odd["arch_def"] = {{"ds_r2_k5_s1_c16_noskip"},
                     {"ir_r1_k7_s2_e2.25_c56_se0.25_nr6", "ir_r2_k3_s1_e1_c56_nre_noskip"},
                     {"cn_r1_k1_s1_c64"}};
  const Space net = parse_block_strings(odd.dump(), "f");
  EXPECT_EQ(plain(parse_block_strings(block_strings(net), "f")), plain(net));
}

TEST(BlockStrings, MistakesAreNamedByPlace) {
  const auto refused = [](const Json& arch, const std::vector<std::string>& parts) {
    try {
      parse_block_strings(arch.dump(), "a.json");
      ADD_FAILURE() << parts[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      const std::string sentence = error.what();
      EXPECT_EQ(sentence.rfind("a.json", 0), 0u) << sentence;
      for (const std::string& part : parts) {
        EXPECT_NE(sentence.find(part), std::string::npos) << part << "\nin " << sentence;
      }
    }
  };
  const auto with = [](const char* text) {
    Json arch = v3();
    arch["arch_def"][1][1] = text;
    return arch;
  };
  const std::string place = "arch_def/1/1";
  refused(with("er_r1_k3_s1_e3_c24"), {place, "blocks 'er'"});
  refused(with("ir_r1_k3_s1_e3_c24_x4"), {place, "'x4'"});
  refused(with("ir_r1_k3_s1_e3_c24_nsw"), {place, "'nsw'"});
  refused(with("ir_r1_k3_s1_e3_c24_gs8"), {place, "'gs8'"});
  refused(with("ir_r1_kx_s1_e3_c24"), {place, "'kx'"});
  refused(with("ir_r1_k3.3_s1_e3_c24"), {place, "'k3.3'", "integer"});
  refused(with("ir_k3_s1_e3_c24"), {place, "r is 0"});
  refused(with("ir_r999999999999_k3_s1_e3_c24"), {place, "'r999999999999'"});
  refused(with("ir_r1_k3_s2_e3_c24"), {place, "first block of a stage"});
  refused(with("ir_r1_k3_s1_e3_c20"), {place, "20 channels", "multiples of 8"});
  refused(with("ir_r1_k3_s1_e3_c24_se0.5"), {place, "se is 0.5"});
  refused(with("ds_r1_k3_s1_c24_se0.25"), {place, "expansion"});
  refused(with(""), {place, "blocks ''"});
  Json arch = v3();
  arch["model"] = "EfficientNet";
  refused(arch, {"arch_def/2/0", "squeeze-and-excite"});
  arch = v3();
  arch["arch_def"].push_back({"ir_r1_k3_s1_e3_c24"});
  refused(arch, {"arch_def/7", "cn"});
  arch = v3();
  arch["arch_def"].erase(6);
  refused(arch, {"needs a cn block"});
  arch = v3();
  arch["arch_def"][2] = "ir_r3_k5_s2_e3_c40";
  refused(arch, {"arch_def/2", "list of strings"});
  arch = v3();
  arch["pad_typ"] = "";
  refused(arch, {"\"pad_typ\"", "\"pad_type\""});
  arch = v3();
  arch["input_size"] = {3, 224, 192};
  refused(arch, {"input_size"});
}

TEST(BlockStrings, WhatTimmHasNoWordsForIsRefused) {
  const auto refused = [](const Space& net, const char* what) {
    try {
      block_strings(net);
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  refused(Space::named("mobilenet_v2").small_images(), "stride 2");
  Space gates = Space::named("mobilenet_v3_large");
  gates.blocks[2].layers[0].gate = Act::hard_sigmoid;
  refused(gates, "two kinds of gates");
}

}  // namespace
}  // namespace tunas::search
