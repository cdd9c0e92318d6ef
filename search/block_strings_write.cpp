// Writing timm's block strings (block_strings.h).
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/arch.h"
#include "search/block_strings.h"

namespace tunas::search {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kActNames[] = {"none",       "relu",    "relu6",
                                     "hard_swish", "sigmoid", "hard_sigmoid"};

void expect(bool holds, const Space& network, const char* what) {
  require(holds, network.name, " cannot be written as timm's block strings: ", what);
}

/// The factor that timm's rounding takes to the layer's width.
std::string expansion(const PlanLayer& layer) {
  const double own = layer.spec->expansions.front();
  const double exact = static_cast<double>(layer.c_exp.now) / layer.c_in.now;
  const bool kept = make_divisible(layer.c_in.now * own) == layer.c_exp.now;
  return fmt::format("{}", kept ? own : exact);
}

/// One layer's string but for its r and s, and without noskip where timm would add the input.
struct Word {
  std::string head, tail;
  int stride = 1, repeats = 1;

  std::string text() const { return fmt::format("{}_r{}{}", head.substr(0, 2), repeats, rest()); }
  std::string rest() const { return fmt::format("{}_s{}{}", head.substr(2), stride, tail); }
};

Word word(const PlanLayer& layer, Act usual) {
  const Layer& spec = *layer.spec;
  const bool expands = spec.kind == LayerKind::bottleneck;
  Word made;
  made.stride = spec.stride;
  made.head = fmt::format("{}_k{}", expands ? "ir" : "ds", layer.kernels.front().k);
  made.tail = fmt::format("_e{}_c{}", expands ? expansion(layer) : "1", layer.c_out.now);
  if (layer.squeeze_excite > 0) made.tail += "_se0.25";
  if (spec.act != usual) {
    made.tail += spec.act == Act::relu ? "_nre" : spec.act == Act::relu6 ? "_nr6" : "_nhs";
  }
  const bool adds = spec.stride == 1 && layer.c_in.now == layer.c_out.now;
  if (adds && !spec.residual) made.tail += "_noskip";
  return made;
}

/// Appends to a stage, or repeats its last word.
void append(std::vector<Word>& stage, const Word& next) {
  const bool same = !stage.empty() && next.stride == 1 && stage.back().head == next.head &&
                    stage.back().tail == next.tail;
  if (same) {
    ++stage.back().repeats;
  } else {
    stage.push_back(next);
  }
}

struct Head {
  std::vector<const PlanLayer*> convs;
  std::vector<Act> acts;
};

/// The 1 x 1 convolutions behind the blocks, and the activation of every convolution, stem first.
Head head_of(const Plan& plan) {
  Head head;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlanLayer& layer = plan.layers[i];
    if (layer.spec->kind != LayerKind::conv) continue;
    if (i > 0) head.convs.push_back(&layer);
    const bool acts =
        i + 1 < plan.layers.size() && plan.layers[i + 1].spec->kind == LayerKind::activation;
    head.acts.push_back(acts ? plan.layers[i + 1].spec->act : Act::none);
  }
  return head;
}

struct Blocks {
  std::vector<std::vector<Word>> stages;
  bool gated = false;
  Act gate = Act::sigmoid;
};

Blocks blocks_of(const Space& network, const Plan& plan, Act usual) {
  Blocks blocks;
  int stage = -1;
  bool head = false;
  for (const PlanLayer& layer : plan.layers) {
    const LayerKind kind = layer.spec->kind;
    head = head || (kind == LayerKind::conv && layer.block > 0);
    if (kind != LayerKind::separable && kind != LayerKind::bottleneck) continue;
    expect(!head, network, "it has blocks behind its head");
    const Act act = layer.spec->act;
    expect(act == usual || act == Act::relu || act == Act::relu6 || act == Act::hard_swish, network,
           "its activations must be relu, relu6 or hard_swish");
    if (layer.squeeze_excite > 0) {
      expect(!blocks.gated || blocks.gate == layer.spec->gate, network,
             "it has two kinds of gates");
      blocks.gated = true;
      blocks.gate = layer.spec->gate;
    }
    const bool opens = layer.block != stage || blocks.stages.empty() || layer.spec->stride != 1;
    if (opens) blocks.stages.emplace_back();
    stage = layer.block;
    append(blocks.stages.back(), word(layer, usual));
  }
  return blocks;
}

}  // namespace

std::string block_strings(const Space& network) {
  const Plan plan = resolve(network, Arch::largest(network), network.resolution);
  const PlanLayer& stem = plan.layers.front();
  expect(stem.kernels.front().k == 3 && stem.spec->stride == 2, network,
         "timm's first convolution is 3 x 3 with stride 2");
  const Head head = head_of(plan);
  const bool v3 = head.convs.size() == 2;
  expect(
      (head.convs.size() == 1 || v3) && head.convs.front()->spec->batch_norm &&
          (!v3 || (!head.convs.back()->spec->batch_norm && head.convs.back()->in_resolution == 1)),
      network,
      "timm's heads are a 1 x 1 convolution with batch norm, and for MobileNetV3 one with bias "
      "behind the global pool");
  const Act usual = head.acts.front();
  for (const Act act : head.acts) {
    expect(act == usual && act != Act::sigmoid && act != Act::hard_sigmoid, network,
           "the convolutions of stem and head must have one activation, relu, relu6 or hard_swish");
  }
  const Blocks blocks = blocks_of(network, plan, usual);
  expect(v3 || !blocks.gated, network,
         "timm's squeeze-and-excite is a share of the expansion in MobileNetV3 only, whose head "
         "has a convolution behind the global pool");
  Json arch_def = Json::array();
  for (const std::vector<Word>& stage : blocks.stages) {
    Json strings = Json::array();
    for (const Word& word : stage) strings.push_back(word.text());
    arch_def.push_back(strings);
  }
  if (v3) arch_def.push_back({fmt::format("cn_r1_k1_s1_c{}", head.convs.front()->c_out.now)});
  Json root = {{"model", v3 ? "MobileNetV3" : "EfficientNet"},
               {"name", network.name},
               {"input_size", {3, network.resolution, network.resolution}},
               {"num_classes", network.classes},
               {"stem_size", stem.c_out.now},
               {"arch_def", arch_def},
               {"num_features", head.convs.back()->c_out.now},
               {"act_layer", kActNames[static_cast<int>(usual)]}};
  if (blocks.gated) root["se_gate"] = kActNames[static_cast<int>(blocks.gate)];
  root["pad_type"] = network.padding == Padding::same ? "same" : "";
  root["bn_eps"] = network.bn_epsilon;
  root["drop_rate"] = network.dropout;
  return root.dump(2) + "\n";
}

}  // namespace tunas::search
