#include "search/cost_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/nearest_name.h"

namespace tunas::search {

using Json = nlohmann::json;

double CostTable::Lookup::at(const Arch& arch, std::size_t axis, int offset) const {
  if (axis == axes.size()) return values[static_cast<std::size_t>(offset)];
  const Axis& a = axes[axis];
  const int value = arch.values[static_cast<std::size_t>(a.decision)];
  if (value != kAll) return at(arch, axis + 1, offset + value * a.stride);
  double sum = 0;
  for (int i = 0; i < a.size; ++i) sum += at(arch, axis + 1, offset + i * a.stride);
  return sum / a.size;
}

double CostTable::cost(const Arch& arch) const {
  double sum = bias_;
  for (const Layer& layer : layers_) {
    const int skip = layer.skip_decision == kFixed ? 0 : arch.values[layer.skip_decision];
    if (skip == kAll) {
      sum += 0.5 * layer.kept.at(arch) + 0.5 * layer.skipped.at(arch);
    } else {
      sum += (skip == 1 ? layer.skipped : layer.kept).at(arch);
    }
  }
  return sum;
}

/// Reads and checks one file.
struct CostTableReader {
  const Space& space;
  const std::string& where;

  const Json& at(const Json& object, const char* key, const std::string& place) const {
    require(object.is_object() && object.contains(key), place, ": \"", key, "\" is missing");
    return object[key];
  }

  double number(const Json& value, const std::string& place) const {
    if (!value.is_number()) {
      fail(Exit::usage, place, ": ", value.dump(), " is not a number");
    }
    return value.get<double>();
  }

  /// A mistyped key would silently drop a table, so every key must be known.
  void allow(const Json& object, const std::vector<std::string>& keys,
             const std::string& place) const {
    if (!object.is_object()) {
      fail(Exit::usage, place, ": ", object.dump(), " is not an object");
    }
    for (const auto& item : object.items()) {
      if (std::find(keys.begin(), keys.end(), item.key()) == keys.end()) {
        fail(Exit::usage, place, ": \"", item.key(), "\" is not a key here; did you mean \"",
             nearest_name(item.key(), keys), "\"?");
      }
    }
  }

  int decision(const Json& entry, const std::string& place) const {
    const Json& value = entry.is_object() ? at(entry, "decision", place) : entry;
    if (!(value.is_number_integer() && value.get<double>() >= 0 &&
          value.get<double>() < static_cast<double>(space.decisions.size()))) {
      fail(Exit::usage, place, ": ", value.dump(), " is not the number of a decision, 0 to ",
           space.decisions.size() - 1);
    }
    return value.get<int>();
  }

  /// Appends the numbers of a nested list whose levels are the axes from `axis` on.
  void flatten(const Json& table, std::size_t axis, const std::string& place,
               CostTable::Lookup& lookup) const {
    if (axis == lookup.axes.size()) {
      lookup.values.push_back(number(table, place));
      return;
    }
    const CostTable::Axis& a = lookup.axes[axis];
    require(table.is_array() && static_cast<int>(table.size()) == a.size, place, ": axis ", axis,
            " has not the ", a.size, " options of ",
            space.decisions[static_cast<std::size_t>(a.decision)].path);
    for (const Json& part : table) flatten(part, axis + 1, place, lookup);
  }

  CostTable::Lookup lookup(const Json& order, const Json& table, const std::string& place) const {
    CostTable::Lookup result;
    require(order.is_array(), place, ": index_order is not a list");
    for (const Json& entry : order) {
      const int d = decision(entry, place);
      result.axes.push_back(
          {d, static_cast<int>(space.decisions[static_cast<std::size_t>(d)].options.size()), 1});
    }
    int stride = 1;
    for (auto axis = result.axes.rbegin(); axis != result.axes.rend(); ++axis) {
      axis->stride = stride;
      stride *= axis->size;
    }
    flatten(table, 0, place, result);
    return result;
  }

  CostTable::Layer layer(const Json& entry, const std::string& place) const {
    allow(entry,
          {"layer", "kind", "block", "layer_in_block", "shape", "index_order", "table",
           "skip_decision", "skip_value", "skip_shape", "skip_index_order", "skip_table"},
          place);
    CostTable::Layer result;
    result.kept = lookup(at(entry, "index_order", place), at(entry, "table", place), place);
    if (!entry.contains("skip_table") && !entry.contains("skip_decision")) return result;
    result.skip_decision = decision(at(entry, "skip_decision", place), place);
    const auto d = static_cast<std::size_t>(result.skip_decision);
    require(space.decisions[d].options.back() == "skip", place, ": skip_decision ", d, " (",
            space.decisions[d].path, ") does not keep or skip a layer");
    result.skipped =
        lookup(at(entry, "skip_index_order", place), at(entry, "skip_table", place), place);
    return result;
  }

  /// How Space writes an option; empty for words, which may differ.
  static std::string option(const Json& choice) {
    if (choice.is_boolean()) return choice.get<bool>() ? "on" : "off";
    if (choice.is_number_integer()) return std::to_string(choice.get<int>());
    if (choice.is_object() && choice.contains("expansion") && choice["expansion"].is_number()) {
      std::ostringstream text;
      text << choice["expansion"].get<double>() << 'x';
      return text.str();
    }
    return "";
  }

  void check_decisions(const Json& decisions) const {
    require(decisions.is_array() && decisions.size() == space.decisions.size(), where,
            ": has not the ", space.decisions.size(), " decisions of ", space.name,
            "; a table holds for its own space only");
    for (std::size_t i = 0; i < decisions.size(); ++i) {
      const Decision& own = space.decisions[i];
      const std::string place = where + ": decision " + std::to_string(i);
      if (at(decisions[i], "path", place) != own.path) {
        fail(Exit::usage, place, " is ", decisions[i]["path"].dump(), ", but ", own.path, " in ",
             space.name);
      }
      const char* tag = own.tag == Tag::filters ? "filters" : "operation";
      require(at(decisions[i], "tag", place) == tag, place, " has not the tag ", tag, " it has in ",
              space.name);
      const Json& choices = at(decisions[i], "choices", place);
      require(choices.is_array() && choices.size() == own.options.size(), place, " (", own.path,
              ") has not the ", own.options.size(), " options it has in ", space.name);
      for (std::size_t c = 0; c < choices.size(); ++c) {
        const std::string text = option(choices[c]);
        require(text.empty() || text == own.options[c], place, " (", own.path, "), option ", c,
                " is ", text, ", but ", own.options[c], " in ", space.name);
      }
    }
  }
};

CostTable CostTable::parse(const std::string& json, const std::string& where, const Space& space) {
  const Json document = Json::parse(json, nullptr, false);
  require(!document.is_discarded(), where, " is not valid JSON");
  const CostTableReader reader{space, where};
  reader.allow(
      document,
      {"search_space", "resolution", "unit", "device", "source", "evaluation", "fractional_masks",
       "bias", "num_decisions", "decisions", "layers", "reference_architectures"},
      where);
  reader.check_decisions(reader.at(document, "decisions", where));
  CostTable table;
  const Json& unit = reader.at(document, "unit", where);
  require(unit.is_string(), where, ": unit is not a string");
  table.unit_ = unit.get<std::string>();
  table.bias_ = reader.number(reader.at(document, "bias", where), where + ": bias");
  if (document.contains("resolution")) {
    table.resolution_ =
        static_cast<int>(reader.number(document["resolution"], where + ": resolution"));
  }
  const Json& layers = reader.at(document, "layers", where);
  require(layers.is_array(), where, ": layers is not a list");
  for (std::size_t l = 0; l < layers.size(); ++l) {
    table.layers_.push_back(reader.layer(layers[l], where + ": layers/" + std::to_string(l)));
  }
  return table;
}

}  // namespace tunas::search
