// Spaces as JSON: reading with every mistake named, and writing what reads back the same.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/json_reader.h"
#include "search/space.h"
#include "search/space_rules.h"

namespace tunas::search {
namespace {

using Json = nlohmann::json;
using Names = JsonReader::Names;

/// Index in these lists = value of the enum.
const Names kOps = {"conv", "separable", "bottleneck", "activation", "global_pool", "endpoint"};
const Names kActs = {"none", "relu", "relu6", "hard_swish", "sigmoid", "hard_sigmoid"};
const Names kPaddings(std::begin(kPaddingNames), std::end(kPaddingNames));

const Names kSpaceKeys = {"name",         "resolution", "classes", "divisor",    "default_target",
                          "weight_decay", "dropout",    "padding", "bn_epsilon", "blocks"};
const Names kBlockKeys = {"filters", "layers"};
const Names kFilterKeys = {"base"};

Names layer_keys(LayerKind kind) {
  switch (kind) {
    case LayerKind::conv:
      return {"op", "repeat", "kernel", "stride", "batch_norm"};
    case LayerKind::separable:
      return {"op",  "repeat",   "kernel",    "stride", "shared_pointwise",
              "act", "residual", "skippable", "wrapped"};
    case LayerKind::bottleneck:
      return {"op",  "repeat", "kernel",   "stride",    "expansion", "squeeze_excite",
              "act", "gate",   "residual", "skippable", "wrapped"};
    case LayerKind::activation:
      return {"op", "repeat", "act"};
    case LayerKind::global_pool:
    case LayerKind::endpoint:
      break;
  }
  return {"op", "repeat"};
}

Layer read_layer(const JsonReader& reader) {
  Layer layer;
  layer.kind = static_cast<LayerKind>(reader.choice("op", kOps));
  reader.allow(layer_keys(layer.kind), "the op " + kOps[static_cast<std::size_t>(layer.kind)]);
  const bool bottleneck = layer.kind == LayerKind::bottleneck;
  if (bottleneck || layer.kind == LayerKind::conv || layer.kind == LayerKind::separable) {
    layer.kernels = reader.integers("kernel");
  }
  layer.stride = reader.integer("stride", layer.stride);
  if (bottleneck) {
    layer.expansions = reader.numbers("expansion");
    layer.squeeze_excite = {0};
    if (reader.has("squeeze_excite")) layer.squeeze_excite = reader.flags("squeeze_excite");
  }
  if (reader.has("act") || layer.kind == LayerKind::activation) {
    layer.act = static_cast<Act>(reader.choice("act", kActs));
  }
  if (reader.has("gate")) layer.gate = static_cast<Act>(reader.choice("gate", kActs));
  layer.batch_norm = reader.flag("batch_norm", layer.batch_norm);
  layer.shared_pointwise = reader.flag("shared_pointwise", layer.shared_pointwise);
  layer.residual = reader.flag("residual", layer.residual);
  layer.skippable = reader.flag("skippable", layer.skippable);
  layer.wrapped = reader.flag("wrapped", layer.wrapped);
  return layer;
}

Block read_block(const JsonReader& reader) {
  reader.allow(kBlockKeys, "a block");
  Block block;
  if (reader.at("filters").is_object()) {
    const JsonReader filters(reader.at("filters"), reader.where() + "/filters");
    filters.allow(kFilterKeys, "filters");
    filters.at("base");
    const int base = filters.integer("base", 0);
    require(base >= 8, filters.where(), ": base is ", base, "; give at least 8");
    block.filters = filter_choices(base);
  } else {
    block.filters = reader.integers("filters");
  }
  const Json& layers = reader.at("layers");
  require(layers.is_array(), reader.where(), ": layers is not a list");
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const JsonReader entry(layers[l], reader.where() + "/layers/" + std::to_string(l));
    const int repeat = entry.integer("repeat", 1);
    require(repeat >= 1 && repeat <= 100, entry.where(), ": repeat is ", repeat,
            ", not from 1 to 100");
    block.layers.insert(block.layers.end(), static_cast<std::size_t>(repeat), read_layer(entry));
  }
  return block;
}

std::string number_text(double value) {
  if (value == std::floor(value)) return std::to_string(static_cast<long long>(value));
  return Json(value).dump();
}

template <class T, class Text>
std::string list_text(const std::vector<T>& values, const Text& text) {
  if (values.size() == 1) return text(values[0]);
  std::string line = "[";
  for (const T& value : values) line += (line.size() > 1 ? ", " : "") + text(value);
  return line + "]";
}

std::string layer_text(const Layer& layer, int repeat) {
  const Layer plain;  // the defaults, which are not written
  const auto name = [](Act act) { return '"' + kActs[static_cast<std::size_t>(act)] + '"'; };
  const auto onoff = [](int on) { return std::string(on ? "true" : "false"); };
  const Names keys = layer_keys(layer.kind);
  std::string line = "{\"op\": \"" + kOps[static_cast<std::size_t>(layer.kind)] + '"';
  const auto add = [&](const char* key, const std::string& value) {
    line += std::string(", \"") + key + "\": " + value;
  };
  if (std::find(keys.begin(), keys.end(), "kernel") != keys.end()) {
    add("kernel", list_text(layer.kernels, number_text));
  }
  if (layer.stride != plain.stride) add("stride", number_text(layer.stride));
  if (layer.kind == LayerKind::bottleneck) {
    add("expansion", list_text(layer.expansions, number_text));
    if (layer.squeeze_excite != std::vector<int>{0}) {
      add("squeeze_excite", list_text(layer.squeeze_excite, onoff));
    }
  }
  if (layer.act != plain.act || layer.kind == LayerKind::activation) add("act", name(layer.act));
  if (layer.gate != plain.gate) add("gate", name(layer.gate));
  if (!layer.batch_norm) add("batch_norm", "false");
  if (!layer.shared_pointwise) add("shared_pointwise", "false");
  if (layer.residual) add("residual", "true");
  if (layer.skippable) add("skippable", "true");
  if (layer.wrapped) add("wrapped", "true");
  if (repeat > 1) add("repeat", number_text(repeat));
  return line + "}";
}

/// Equal but for the decision numbers.
bool same_choices(Layer a, const Layer& b) {
  a.kernel_decision = b.kernel_decision;
  a.expansion_decision = b.expansion_decision;
  a.squeeze_excite_decision = b.squeeze_excite_decision;
  a.skip_decision = b.skip_decision;
  return a == b;
}

std::string block_text(const Block& block) {
  std::string text =
      "    {\"filters\": " + list_text(block.filters, number_text) + ", \"layers\": [";
  for (std::size_t l = 0; l < block.layers.size();) {
    std::size_t end = l + 1;
    while (end < block.layers.size() && same_choices(block.layers[end], block.layers[l])) ++end;
    text +=
        (l > 0 ? ",\n      " : "\n      ") + layer_text(block.layers[l], static_cast<int>(end - l));
    l = end;
  }
  return text + "]}";
}

}  // namespace

Space Space::parse(const std::string& json, const std::string& where) {
  const Json document = parse_json(json, where);
  const JsonReader reader(document, where);
  reader.allow(kSpaceKeys, "a space");
  Space space;
  space.name = reader.string("name");
  space.resolution = reader.integer("resolution", space.resolution);
  space.classes = reader.integer("classes", space.classes);
  space.divisor = reader.integer("divisor", space.divisor);
  space.default_target = reader.number("default_target", space.default_target);
  space.weight_decay = reader.number("weight_decay", space.weight_decay);
  space.dropout = reader.number("dropout", space.dropout);
  if (reader.has("padding")) {
    space.padding = static_cast<Padding>(reader.choice("padding", kPaddings));
  }
  space.bn_epsilon = reader.number("bn_epsilon", space.bn_epsilon);
  const Json& blocks = reader.at("blocks");
  require(blocks.is_array(), where, ": blocks is not a list");
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    space.blocks.push_back(read_block({blocks[b], where + ": blocks/" + std::to_string(b)}));
  }
  check_rules(space, where);
  space.number_decisions();
  return space;
}

Space Space::load(const std::string& file) {
  std::ifstream in(file);
  require(in.good(), file, " cannot be read; give the path of a JSON file");
  return parse({std::istreambuf_iterator<char>(in), {}}, file);
}

std::string Space::json() const {
  const Space plain;  // what is as published is not written
  std::string text = "{\n  \"name\": " + Json(name).dump();
  text += ",\n  \"resolution\": " + number_text(resolution);
  text += ",\n  \"classes\": " + number_text(classes);
  text += ",\n  \"divisor\": " + number_text(divisor);
  text += ",\n  \"default_target\": " + number_text(default_target);
  text += ",\n  \"weight_decay\": " + number_text(weight_decay);
  text += ",\n  \"dropout\": " + number_text(dropout);
  if (padding != plain.padding) {
    text += ",\n  \"padding\": \"" + kPaddings[static_cast<std::size_t>(padding)] + '"';
  }
  if (bn_epsilon != plain.bn_epsilon) text += ",\n  \"bn_epsilon\": " + number_text(bn_epsilon);
  text += ",\n  \"blocks\": [\n";
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    text += (b > 0 ? ",\n" : "") + block_text(blocks[b]);
  }
  return text + "\n  ]\n}\n";
}

}  // namespace tunas::search
