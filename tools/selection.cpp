#include "tools/selection.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "engine/file.h"
#include "search/block_strings.h"
#include "search/cost_model.h"
#include "search/locate.h"
#include "search/net_config.h"
#include "tools/preprocess.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

bool is_file(const std::string& name) {
  return name.ends_with(".json") || std::filesystem::is_regular_file(name);
}

/// The only architecture of a space with one point.
search::Arch only_point(const search::Space& space) {
  return {std::vector<std::int8_t>(space.decisions.size(), 0)};
}

bool has_one_point(const search::Space& space) {
  return std::all_of(space.decisions.begin(), space.decisions.end(),
                     [](const search::Decision& decision) { return decision.options.size() == 1; });
}

/// Milliseconds from a published table; null where the network is in none at this resolution.
Json latency(const search::Space& alone, int resolution) {
  try {
    return search::CostModel::pixel1(alone, resolution).cost(only_point(alone));
  } catch (const Error&) {
    return nullptr;
  }
}

const char* name_of(search::LayerKind kind) {
  switch (kind) {
    case search::LayerKind::conv:
      return "conv";
    case search::LayerKind::separable:
      return "separable";
    case search::LayerKind::bottleneck:
      return "bottleneck";
    case search::LayerKind::activation:
      return "activation";
    case search::LayerKind::global_pool:
      return "global_pool";
    case search::LayerKind::endpoint:
      return "endpoint";
  }
  return "";
}

const char* name_of(Act act) {
  constexpr const char* kNames[] = {"none",       "relu",    "relu6",
                                    "hard_swish", "sigmoid", "hard_sigmoid"};
  return kNames[static_cast<int>(act)];
}

Json describe(const search::PlanLayer& layer) {
  const search::Layer& spec = *layer.spec;
  const search::Counts counts = search::count(layer);
  Json row = {{"block", layer.block},
              {"op", name_of(spec.kind)},
              {"in_resolution", layer.in_resolution},
              {"out_resolution", layer.out_resolution},
              {"c_in", layer.c_in.now}};
  const bool acts = spec.kind == search::LayerKind::activation ||
                    spec.kind == search::LayerKind::separable ||
                    spec.kind == search::LayerKind::bottleneck;
  if (spec.kind == search::LayerKind::bottleneck) row["c_exp"] = layer.c_exp.now;
  row["c_out"] = layer.c_out.now;
  if (!layer.kernels.empty()) row["kernel"] = layer.kernels.front().k;
  if (!layer.kernels.empty()) row["stride"] = spec.stride;
  if (layer.squeeze_excite > 0) row["squeeze_excite"] = layer.c_hidden.now;
  if (acts) row["act"] = name_of(spec.act);
  if (spec.residual) row["residual"] = true;
  row["params"] = static_cast<long>(counts.params());
  row["macs"] = static_cast<long>(counts.macs);
  return row;
}

}  // namespace

Option space_option() {
  return {.name = "space",
          .unit = "SPACE",
          .help = "a published space (tunas space list) or a .json file"};
}

Option indices_option() {
  return {
      .name = "indices", .unit = "I", .help = "option numbers of all decisions, as in 2:1:0:..."};
}

Option name_option() {
  return {.name = "name", .unit = "NAME", .help = "a reference network (tunas space list)"};
}

Option arch_option() {
  return {.name = "arch",
          .unit = "FILE|NAME",
          .help = "an arch.json, a net.config, timm's block strings or a reference network"};
}

Option json_option() {
  return {.name = "json",
          .type = Type::flag,
          .help = "write JSON for programs instead of text for people",
          .role = Role::call};
}

Option resolution_option() {
  return {.name = "resolution",
          .type = Type::integer,
          .unit = "pixels",
          .help = "image size, a multiple of 8 (default: the space's own, 224)",
          .least = 8};
}

Option seed_option() {
  return {.name = "seed",
          .type = Type::integer,
          .fallback = "0",
          .help = "of all random numbers",
          .least = 0,
          .most = 9007199254740992};  // 2^53: whole in JSON, too
}

Option cost_option() {
  return {.name = "cost",
          .fallback = "pixel1",
          .unit = "pixel1|macs|params|FILE",
          .help = "what an architecture costs: published latency, a count, or a table"};
}

Option config_option() {
  return {.name = "config",
          .unit = "FILE",
          .help = "JSON file of option names and values",
          .role = Role::call};
}

std::vector<Option> variant_options() {
  return {{.name = "width",
           .type = Type::number,
           .fallback = "1",
           .unit = "FACTOR",
           .help = "multiplies all filters, rounded to multiples of 8",
           .least = 0.01,
           .most = 64},
          {.name = "small-images",
           .type = Type::flag,
           .help = "first convolution and first reduction at stride 1, for 32 to 64 pixels"}};
}

void check_output(const Config& config, const std::string& output,
                  const std::vector<std::string>& others) {
  if (!config.has(output)) return;
  const std::filesystem::path path = config.text(output);
  for (const std::string& other : others) {
    if (!config.has(other)) continue;
    std::error_code error;
    const bool same =
        path == config.text(other) || std::filesystem::equivalent(path, config.text(other), error);
    require(!same, config.from(output), " and ", config.from(other), " name the same file, ",
            path.string(), ", which would be lost; choose another name");
  }
}

std::vector<Option> join(std::vector<Option> first, const std::vector<std::vector<Option>>& lists) {
  for (const std::vector<Option>& list : lists) first.insert(first.end(), list.begin(), list.end());
  return first;
}

search::Space open_space(const std::string& name) {
  return is_file(name) ? search::Space::parse(engine::read_file(name), name)
                       : search::Space::named(name);
}

search::Space variant(const search::Space& space, const Config& config) {
  search::Space changed = space;
  if (config.number("width") != 1) changed = changed.scaled(config.number("width"));
  if (config.flag("small-images")) changed = changed.small_images();
  return changed;
}

Network variant(const Network& network, const Config& config) {
  const search::Space changed = variant(network.alone, config);
  if (changed.name == network.alone.name) return network;
  return {changed, "", "", network.preprocess, network.origin};
}

int resolution(const Config& config, const search::Space& space) {
  if (!config.has("resolution")) return space.resolution;
  const long pixels = config.integer("resolution");
  require(pixels % 8 == 0 && pixels <= 4096, config.from("resolution"), ": ", pixels,
          " is not a multiple of 8 up to 4096; the nearest is ",
          std::min((pixels + 4) / 8 * 8, 4096L));
  return static_cast<int>(pixels);
}

Network choose(const search::Space& space, const search::Arch& arch) {
  return {space.only(arch), space.name, arch.indices()};
}

Network named_network(const std::string& name) {
  Network network{search::Space::named(name), "", "", {}, search::Origin::reference};
  require(has_one_point(network.alone), "'", name,
          "' is a search space, not a network; choose a network of it with --space ", name,
          " --indices I");
  for (const std::string& published : search::Space::names()) {
    if (!search::Space::is_search_space(published)) continue;
    const auto place = search::locate(network.alone, search::Space::named(published)).arch;
    if (!place) continue;
    network.space = published;
    network.indices = place->indices();
    break;
  }
  return network;
}

Network load_network(const std::string& file) {
  const std::string text = engine::read_file(file);
  if (search::is_net_config(text)) return {search::parse_net_config(text, file), "", ""};
  if (search::is_block_strings(text)) return {search::parse_block_strings(text, file), "", ""};
  Json root;
  try {
    root = Json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(Exit::data, file, ": is not JSON (", error.what(), ")");
  }
  const auto word = [&](const char* key) {
    return root.contains(key) && root[key].is_string() ? root[key].get<std::string>() : "";
  };
  const bool described = root.is_object() && root.contains("network");
  Network network{search::Space::parse(described ? root["network"].dump() : text, file), "", ""};
  if (described) {
    network.space = word("space");
    network.indices = word("indices");
    if (root.contains("preprocess")) {
      network.preprocess = read_preprocess(root["preprocess"], file);
    }
  }
  if (!has_one_point(network.alone)) {
    fail(Exit::data, file, ": leaves choices open; choose a network of it with tunas arch show ",
         "--space ", file, " --indices I --json");
  }
  return network;
}

Network open_network(const std::string& name_or_file) {
  return is_file(name_or_file) ? load_network(name_or_file) : named_network(name_or_file);
}

Preprocess preprocess_of(const Network& network, const engine::Safetensors& weights, int from,
                         int to) {
  Preprocess preprocess;
  const std::optional<search::Family> family = search::family_of(weights);
  if (network.preprocess) {
    preprocess = *network.preprocess;
  } else if (family) {
    preprocess = search::preprocess_of(family->images);
  }
  preprocess.resize = preprocess.resize * to / from;
  return preprocess;
}

Json describe(const Network& network, int resolution) {
  search::Space alone = network.alone;
  alone.resolution = resolution;
  const search::Plan plan = search::resolve(network.alone, only_point(network.alone), resolution);
  const search::Counts counts = search::count(plan);
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json layers = Json::array();
  for (const search::PlanLayer& layer : plan.layers) {
    if (layer.spec->kind != search::LayerKind::endpoint) layers.push_back(describe(layer));
  }
  Json json = {{"space", or_null(network.space)},
               {"indices", or_null(network.indices)},
               {"resolution", resolution},
               {"params", static_cast<long>(counts.params())},
               {"macs", static_cast<long>(counts.macs)},
               {"cost_ms", latency(alone, resolution)},
               {"layers", layers},
               {"network", Json::parse(alone.json())}};
  if (network.preprocess) json["preprocess"] = describe(*network.preprocess);
  return json;
}

}  // namespace tunas::tools
