// Reading timm's block strings; block_strings_write.cpp writes them.
#include "search/block_strings.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/error.h"
#include "search/assembly.h"
#include "search/json_reader.h"

namespace tunas::search {
namespace {

using Names = JsonReader::Names;

const Names kKeys = {"model",     "name",     "input_size",   "num_classes",
                     "stem_size", "arch_def", "num_features", "act_layer",
                     "se_gate",   "pad_type", "bn_eps",       "drop_rate"};
const Names kModels = {"EfficientNet", "MobileNetV3"};
const Names kGates = {"sigmoid", "hard_sigmoid"};
const Names kPads = {"same", "", "symmetric"};

/// One string, taken apart.
struct BlockString {
  std::string type;
  int repeats = 0, kernel = 0, stride = 0, channels = 0;
  double expansion = 1, squeeze_excite = 0;
  Act act = Act::none;
  bool has_act = false, skips = true;
};

double to_number(std::string_view text, const std::string& place, std::string_view option) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= 0 && value < 1e6,
          place, ": '", option, "' does not end in a number below a million");
  return value;
}

int to_integer(std::string_view text, const std::string& place, std::string_view option) {
  const double value = to_number(text, place, option);
  require(value == static_cast<int>(value), place, ": '", option, "' does not end in an integer");
  return static_cast<int>(value);
}

/// Sets what `option` says; false: it is none that is known.
bool set(BlockString& block, std::string_view option, const std::string& place) {
  static const std::map<std::string_view, Act> kActs = {
      {"nre", Act::relu}, {"nr6", Act::relu6}, {"nhs", Act::hard_swish}};
  if (option == "noskip") {
    block.skips = false;
    return true;
  }
  if (option == "skip") return block.type != "cn";  // what the other types do anyway
  if (const auto act = kActs.find(option); act != kActs.end()) {
    block.act = act->second;
    block.has_act = true;
    return true;
  }
  const std::size_t digit = option.find_first_of("0123456789.");
  const std::string_view key = option.substr(0, digit);
  if (digit == std::string_view::npos) return false;
  const std::string_view value = option.substr(digit);
  if (key == "r")
    block.repeats = to_integer(value, place, option);
  else if (key == "k")
    block.kernel = to_integer(value, place, option);
  else if (key == "s")
    block.stride = to_integer(value, place, option);
  else if (key == "c")
    block.channels = to_integer(value, place, option);
  else if (key == "e")
    block.expansion = to_number(value, place, option);
  else if (key == "se")
    block.squeeze_excite = to_number(value, place, option);
  else
    return false;
  return true;
}

BlockString decode(std::string_view text, const std::string& place) {
  BlockString block;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('_', begin), text.size());
    const std::string_view option = text.substr(begin, end - begin);
    if (begin == 0) {
      block.type = option;
    } else {
      require(set(block, option, place), place, ": '", option,
              "' is no option that is supported; these are: r k s e c se0.25 nre nr6 nhs noskip");
    }
    begin = end + 1;
  }
  require(block.type == "ir" || block.type == "ds" || block.type == "cn", place, ": blocks '",
          block.type, "' are not supported; ir, ds and cn are");
  require(block.repeats >= 1 && block.repeats <= 100, place, ": r is ", block.repeats,
          ", not from 1 to 100");
  require(block.stride == 1 || block.stride == 2, place, ": s is ", block.stride, ", not 1 or 2");
  require(block.squeeze_excite == 0 || block.squeeze_excite == 0.25, place, ": se is ",
          block.squeeze_excite, "; only 0.25 is supported");
  require(block.expansion > 0 && block.expansion <= 64, place, ": e is ", block.expansion,
          ", not above 0 and at most 64");
  return block;
}

/// What all blocks of a model have in common.
struct Model {
  bool v3 = false;
  Act act = Act::relu, gate = Act::sigmoid;
};

void add_mobile(Assembly& net, const BlockString& block, const Model& model, int stride,
                const std::string& place) {
  MobileLayer layer;
  layer.kernel = block.kernel;
  layer.stride = stride;
  layer.c_out = block.channels;
  layer.act = block.has_act ? block.act : model.act;
  layer.residual = block.skips && stride == 1 && block.channels == net.width();
  if (block.type == "ir") {
    layer.c_exp = make_divisible(net.width() * block.expansion);
    layer.expansion = block.expansion;
  } else {
    require(block.expansion == 1, place, ": a ds block has no expansion, but e is ",
            block.expansion);
  }
  if (block.squeeze_excite > 0) {
    require(model.v3, place,
            ": the squeeze-and-excite of timm's EfficientNet is a share of the block's input, here "
            "of its expansion; only that of MobileNetV3 is supported");
    layer.squeeze_excite = true;
    layer.gate = model.gate;
  }
  net.mobile(layer, place);
}

/// Adds a stage; true: it was the last one, a 1 x 1 convolution.
bool add_stage(Assembly& net, const nlohmann::json& stage, const Model& model,
               const std::string& place) {
  require(stage.is_array() && !stage.empty(), place, " is not a list of strings");
  for (std::size_t i = 0; i < stage.size(); ++i) {
    const std::string here = place + "/" + std::to_string(i);
    require(stage[i].is_string(), here, ": ", stage[i].dump(), " is not a string");
    const std::string text = stage[i].get<std::string>();
    const BlockString block = decode(text, here + " '" + text + "'");
    if (block.type == "cn") {
      require(block.repeats == 1 && block.kernel == 1 && block.stride == 1 && stage.size() == 1,
              here, ": a cn block must be r1, k1, s1 and alone in its stage");
      net.pointwise(block.channels, block.has_act ? block.act : model.act,
                    Assembly::Bias::batch_norm);
      return true;
    }
    require(i == 0 || block.stride == 1, here,
            ": only the first block of a stage can have a stride");
    for (int r = 0; r < block.repeats; ++r) {
      add_mobile(net, block, model, i == 0 && r == 0 ? block.stride : 1, here);
    }
  }
  return false;
}

int input_size(const JsonReader& root) {
  if (!root.has("input_size")) return 224;
  const std::vector<int> size = root.integers("input_size");
  require(size.size() == 3 && size[0] == 3 && size[1] == size[2], root.where(),
          ": input_size is not [3, pixels, pixels]");
  return size[1];
}

}  // namespace

bool is_block_strings(const std::string& json) {
  const nlohmann::json root = nlohmann::json::parse(json, nullptr, false);
  return root.is_object() && root.contains("arch_def");
}

Space parse_block_strings(const std::string& json, const std::string& where) {
  const nlohmann::json document = parse_json(json, where);
  const JsonReader root(document, where);
  root.allow(kKeys, "timm's block strings");
  static const Names acts = {"none", "relu", "relu6", "hard_swish"};  // as enum Act
  Model model;
  model.v3 = root.choice("model", kModels) == 1;
  if (root.has("act_layer")) model.act = static_cast<Act>(root.choice("act_layer", acts));
  model.gate = model.v3 ? Act::hard_sigmoid : Act::sigmoid;
  if (root.has("se_gate")) {
    model.gate = root.choice("se_gate", kGates) == 0 ? Act::sigmoid : Act::hard_sigmoid;
  }
  Assembly net(root.string("name", "timm"), where);
  Space& space = net.space();
  space.resolution = input_size(root);
  space.classes = root.integer("num_classes", 1000);
  space.dropout = root.number("drop_rate", 0);
  space.bn_epsilon = root.number("bn_eps", 1e-5);
  const bool same = root.has("pad_type") && root.choice("pad_type", kPads) == 0;
  space.padding = same ? Padding::same : Padding::symmetric;

  net.stem(3, 2, root.integer("stem_size", 32), model.act);
  const auto& stages = root.list("arch_def");
  bool ended = false;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const std::string place = where + ": arch_def/" + std::to_string(s);
    require(!ended, place, ": a cn block must be in the last stage");
    ended = add_stage(net, stages[s], model, place);
  }
  require(ended == model.v3, where, ": ", kModels[model.v3],
          model.v3 ? " needs a cn block in its last stage"
                   : " has its 1 x 1 convolution in "
                     "num_features, and no cn block");
  if (model.v3) net.pool();
  net.pointwise(root.integer("num_features", 1280), model.act,
                model.v3 ? Assembly::Bias::bias : Assembly::Bias::batch_norm);
  if (!model.v3) net.pool();
  return net.finish();
}

}  // namespace tunas::search
