#include "search/net_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/arch.h"
#include "search/assembly.h"
#include "search/json_reader.h"

namespace tunas::search {
namespace {

using Json = nlohmann::ordered_json;
using Names = JsonReader::Names;

const Names kActs = {"none", "relu", "relu6", "h_swish", "sigmoid", "h_sigmoid"};  // as enum Act

Act act(const JsonReader& reader) {
  return reader.has("act_func") ? static_cast<Act>(reader.choice("act_func", kActs)) : Act::none;
}

/// Refuses what a layer may have in the format and cannot have here.
void check_plain(const JsonReader& layer) {
  const auto expect = [&](const char* key, bool plain, const std::string& instead) {
    require(plain, layer.where(), ": ", key, " is not supported; only ", instead, " is");
  };
  expect("dilation", layer.integer("dilation", 1) == 1, "1");
  expect("has_shuffle", !layer.flag("has_shuffle", false), "false");
  const std::string order = layer.string("ops_order", "weight_bn_act");
  expect("ops_order", order == "weight_bn_act", "weight_bn_act");
}

/// A ConvLayer: filters with `use_bn`, or a bias.
void check_conv(const JsonReader& layer, bool use_bn) {
  check_plain(layer);
  require(layer.flag("use_bn", true) == use_bn, layer.where(), ": use_bn must be ",
          use_bn ? "true" : "false", " here");
  require(layer.integer("groups", 1) == 1 && !layer.flag("use_se", false), layer.where(),
          ": groups and use_se are not supported in this layer");
}

void read_pointwise(Assembly& net, const JsonReader& layer, Assembly::Bias bias) {
  check_conv(layer, bias == Assembly::Bias::batch_norm);
  require(layer.integer("kernel_size", 1) == 1 && layer.integer("stride", 1) == 1, layer.where(),
          ": only a 1 x 1 convolution of stride 1 is supported here");
  require(layer.integer("in_channels", net.width()) == net.width(), layer.where(),
          ": in_channels is ", layer.integer("in_channels", 0), ", but there are ", net.width());
  net.pointwise(layer.integer("out_channels", 0), act(layer), bias);
}

/// Whether a block adds its input.
bool read_shortcut(const JsonReader& block) {
  if (!block.has("shortcut")) return false;
  const JsonReader shortcut = block.object("shortcut");
  const std::string kind = shortcut.string("name");
  if (kind == "ZeroLayer") return false;
  require(kind == "IdentityLayer", shortcut.where(), ": a ", kind,
          " as shortcut is not supported; only IdentityLayer is");
  require(!shortcut.flag("use_bn", false) && act(shortcut) == Act::none, shortcut.where(),
          ": a shortcut with batch norm or activation is not supported");
  return true;
}

void read_block(Assembly& net, const JsonReader& block) {
  const char* key = block.has("conv") ? "conv" : "mobile_inverted_conv";
  if (!block.has(key)) return;  // once-for-all: the identity
  const JsonReader conv = block.object(key);
  const std::string kind = conv.string("name");
  if (kind == "ZeroLayer") return;
  require(kind == "MBInvertedConvLayer" || kind == "MBConvLayer", conv.where(), ": a ", kind,
          " is not supported; only MBInvertedConvLayer and MBConvLayer are");
  require(!conv.has("groups"), conv.where(), ": groups is not supported; only null is");
  const int in = conv.integer("in_channels", net.width());
  require(in == net.width(), conv.where(), ": in_channels is ", in, ", but there are ",
          net.width());
  MobileLayer layer;
  layer.kernel = conv.integer("kernel_size", 3);
  layer.stride = conv.integer("stride", 1);
  layer.c_out = conv.integer("out_channels", 0);
  layer.act = conv.has("act_func") ? act(conv) : Act::relu6;
  layer.squeeze_excite = conv.flag("use_se", false);
  if (layer.squeeze_excite) layer.gate = Act::hard_sigmoid;
  layer.residual = read_shortcut(block);
  const double ratio = conv.number("expand_ratio", 0);
  if (ratio != 1) {
    require(conv.has("mid_channels") || (ratio > 0 && ratio <= 64), conv.where(),
            ": expand_ratio is ", ratio, ", not above 0 and at most 64");
    // Python rounds halves to even, as nearbyint does.
    layer.c_exp = conv.integer("mid_channels", static_cast<int>(std::nearbyint(in * ratio)));
    layer.expansion = ratio;
  } else {
    require(!conv.has("mid_channels") || conv.integer("mid_channels", 0) == in, conv.where(),
            ": mid_channels is not in_channels where expand_ratio is 1");
  }
  net.mobile(layer, conv.where());
}

void read_classifier(Space& space, const JsonReader& layer) {
  require(layer.string("name", "LinearLayer") == "LinearLayer" && act(layer) == Act::none &&
              !layer.flag("use_bn", false) && layer.flag("bias", true),
          layer.where(), ": only a LinearLayer with bias, without batch norm is supported");
  space.classes = layer.integer("out_features", 1000);
  space.dropout = layer.number("dropout_rate", 0);
}

Json conv_layer(int kernel, int stride, int in, int out, bool use_bn, Act act) {
  return {{"name", "ConvLayer"},
          {"kernel_size", kernel},
          {"stride", stride},
          {"dilation", 1},
          {"groups", 1},
          {"bias", !use_bn},
          {"has_shuffle", false},
          {"in_channels", in},
          {"out_channels", out},
          {"use_bn", use_bn},
          {"act_func", act == Act::none ? Json() : Json(kActs[static_cast<std::size_t>(act)])},
          {"dropout_rate", 0},
          {"ops_order", "weight_bn_act"}};
}

Json block_json(const PlanLayer& layer) {
  const Layer& spec = *layer.spec;
  const int in = layer.c_in.now, out = layer.c_out.now;
  const bool expands = spec.kind == LayerKind::bottleneck;
  const bool gated = layer.squeeze_excite > 0;
  require(
      !gated || spec.gate == Act::hard_sigmoid,
      "a net.config has no words for squeeze-and-excite with a sigmoid gate: once-for-all's are "
      "hard sigmoids");
  Json conv = {{"name", "MBInvertedConvLayer"},
               {"in_channels", in},
               {"out_channels", out},
               {"kernel_size", layer.kernels.front().k},
               {"stride", spec.stride},
               {"expand_ratio", 1},
               {"mid_channels", nullptr},
               {"act_func", kActs[static_cast<std::size_t>(spec.act)]},
               {"use_se", gated}};
  if (expands) {
    const double ratio = spec.expansions.front();
    const bool plain = ratio != 1 && std::nearbyint(in * ratio) == layer.c_exp.now;
    conv["expand_ratio"] = plain ? Json(ratio) : Json();
    if (plain && ratio == std::floor(ratio)) conv["expand_ratio"] = static_cast<int>(ratio);
    if (!plain) conv["mid_channels"] = layer.c_exp.now;
  }
  const Json shortcut = {{"name", "IdentityLayer"},     {"in_channels", in},
                         {"out_channels", in},          {"use_bn", false},
                         {"act_func", nullptr},         {"dropout_rate", 0},
                         {"ops_order", "weight_bn_act"}};
  return {{"name", "MobileInvertedResidualBlock"},
          {"mobile_inverted_conv", conv},
          {"shortcut", spec.residual ? shortcut : Json()}};
}

/// The activation behind layer `i`.
Act act_after(const Plan& plan, std::size_t i) {
  const bool has =
      i + 1 < plan.layers.size() && plan.layers[i + 1].spec->kind == LayerKind::activation;
  return has ? plan.layers[i + 1].spec->act : Act::none;
}

}  // namespace

bool is_net_config(const std::string& json) {
  const Json root = Json::parse(json, nullptr, false);
  return root.is_object() && root.contains("first_conv") && root.contains("blocks");
}

Space parse_net_config(const std::string& json, const std::string& where) {
  const nlohmann::json document = parse_json(json, where);
  const JsonReader root(document, where);
  const bool v3 = root.has("final_expand_layer");
  Assembly net(root.string("name", "net.config"), where);
  net.space().resolution = root.integer("resolution", 224);
  net.space().padding = Padding::symmetric;
  net.space().bn_epsilon = v3 ? 1e-5 : 1e-3;  // the defaults of the two classes
  if (root.has("bn")) {
    net.space().bn_epsilon = root.object("bn").number("eps", net.space().bn_epsilon);
  }
  const JsonReader first = root.object("first_conv");
  check_conv(first, true);
  net.stem(first.integer("kernel_size", 3), first.integer("stride", 1),
           first.integer("out_channels", 0), act(first));
  const auto& blocks = root.list("blocks");
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    read_block(net, {blocks[b], where + ": blocks/" + std::to_string(b)});
  }
  if (v3) {
    read_pointwise(net, root.object("final_expand_layer"), Assembly::Bias::batch_norm);
  } else if (root.has("feature_mix_layer")) {
    read_pointwise(net, root.object("feature_mix_layer"), Assembly::Bias::batch_norm);
  }
  net.pool();
  if (v3) read_pointwise(net, root.object("feature_mix_layer"), Assembly::Bias::bias);
  read_classifier(net.space(), root.object("classifier"));
  return net.finish();
}

std::string net_config(const Space& network) {
  const Plan plan = resolve(network, Arch::largest(network), network.resolution);
  Json first, blocks = Json::array(), head[2];
  std::size_t heads = 0;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlanLayer& layer = plan.layers[i];
    const Layer& spec = *layer.spec;
    if (spec.kind == LayerKind::separable || spec.kind == LayerKind::bottleneck) {
      require(heads == 0, "a net.config has no blocks behind its head");
      blocks.push_back(block_json(layer));
    } else if (spec.kind == LayerKind::conv) {
      const Json conv = conv_layer(layer.kernels.front().k, spec.stride, layer.c_in.now,
                                   layer.c_out.now, spec.batch_norm, act_after(plan, i));
      require(i == 0 || (heads < 2 && spec.batch_norm == (heads == 0)),
              "a net.config's head is a convolution with batch norm, and behind the global pool "
              "at most one without; ",
              network.name, " has another");
      (i == 0 ? first : head[heads++]) = conv;
    }
  }
  Json root = {{"name", heads == 2 ? "MobileNetV3" : "ProxylessNASNets"},
               {"bn", {{"momentum", 0.1}, {"eps", network.bn_epsilon}}},
               {"first_conv", first},
               {"blocks", blocks}};
  if (heads == 2) root["final_expand_layer"] = head[0];
  root["feature_mix_layer"] = heads == 0 ? Json() : head[heads - 1];
  root["classifier"] = {{"name", "LinearLayer"},
                        {"in_features", plan.c_head.now},
                        {"out_features", network.classes},
                        {"bias", true},
                        {"use_bn", false},
                        {"act_func", nullptr},
                        {"dropout_rate", network.dropout},
                        {"ops_order", "weight_bn_act"}};
  root["resolution"] = network.resolution;
  return root.dump(1) + "\n";
}

}  // namespace tunas::search
