// Numbering of decisions, rounding of widths, and spaces made from spaces.
#include "search/space.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "kernels/error.h"
#include "search/arch.h"

namespace tunas::search {
namespace {

template <class T>
std::string text(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

template <class T>
std::vector<std::string> texts(const std::vector<T>& values, const char* suffix = "") {
  std::vector<std::string> names;
  for (const T& value : values) names.push_back(text(value) + suffix);
  return names;
}

/// Numbers the decisions of one layer, children before the parent.
void number_layer(Layer& layer, const std::string& path, std::vector<Decision>& decisions) {
  const auto add = [&](std::string where, Tag tag, std::vector<std::string> options) {
    decisions.push_back({std::move(where), tag, std::move(options)});
    return static_cast<int>(decisions.size()) - 1;
  };
  layer.kernel_decision = layer.expansion_decision = kFixed;
  layer.squeeze_excite_decision = layer.skip_decision = kFixed;
  const bool enclosed = layer.skippable || layer.wrapped;
  const std::string outer = layer.residual ? path + "/layer" : path;
  const std::string inner = enclosed ? outer + "/choices/0" : outer;
  if (layer.kernels.size() > 1) {
    // Complete layers are the options of the layer itself, not of something inside it.
    const bool complete = layer.kind == LayerKind::separable && !layer.shared_pointwise;
    layer.kernel_decision =
        add(complete ? inner : inner + "/kernel_size", Tag::operation, texts(layer.kernels));
  }
  if (layer.expansions.size() > 1) {
    layer.expansion_decision =
        add(inner + "/expansion_filters", Tag::filters, texts(layer.expansions, "x"));
  }
  if (layer.squeeze_excite.size() > 1) {
    layer.squeeze_excite_decision =
        add(inner + "/use_squeeze_and_excite", Tag::operation, {"off", "on"});
  }
  if (layer.skippable) layer.skip_decision = add(outer, Tag::operation, {"keep", "skip"});
  if (layer.wrapped) layer.skip_decision = add(outer, Tag::operation, {"keep"});
}

/// The option an architecture takes of a decision, 0 where nothing is open.
std::size_t chosen(const Space& space, const Arch& arch, int decision) {
  if (decision == kFixed) return 0;
  const auto d = static_cast<std::size_t>(decision);
  require(arch.values[d] != kAll, space.name, ": decision ", decision, " (",
          space.decisions[d].path,
          ") runs all its options, so the architecture is not a single network; choose one option");
  return static_cast<std::size_t>(arch.values[d]);
}

}  // namespace

int round_filters(double filters, double multiplier, int divisor) {
  const float units =
      static_cast<float>(filters) * static_cast<float>(multiplier) / static_cast<float>(divisor);
  return std::max(divisor, divisor * static_cast<int>(std::floor(units + 0.5f)));
}

int make_divisible(double x, int divisor) {
  const int units = static_cast<int>(std::floor((x + divisor / 2.0) / divisor));
  const int rounded = std::max(divisor, units * divisor);
  return rounded < 0.9 * x ? rounded + divisor : rounded;
}

std::vector<int> filter_choices(int base) {
  std::vector<int> choices;
  for (const double m : {0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0}) {
    choices.push_back(round_filters(base, m));
  }
  choices.erase(std::unique(choices.begin(), choices.end()), choices.end());
  return choices;
}

void Space::number_decisions() {
  decisions.clear();
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const std::string path = "blocks/" + text(b);
    for (std::size_t l = 0; l < blocks[b].layers.size(); ++l) {
      number_layer(blocks[b].layers[l], path + "/layers/" + text(l), decisions);
    }
    blocks[b].filters_decision = static_cast<int>(decisions.size());
    decisions.push_back({path + "/filters", Tag::filters, texts(blocks[b].filters)});
  }
}

Space Space::only(const Arch& arch) const {
  check(*this, arch);
  Space network = *this;
  for (Block& block : network.blocks) {
    std::vector<Layer> kept;
    for (Layer& layer : block.layers) {
      if (layer.skippable && chosen(*this, arch, layer.skip_decision) == 1) continue;
      layer.kernels = {layer.kernels[chosen(*this, arch, layer.kernel_decision)]};
      if (layer.kind == LayerKind::bottleneck) {
        layer.expansions = {layer.expansions[chosen(*this, arch, layer.expansion_decision)]};
        layer.squeeze_excite = {
            layer.squeeze_excite[chosen(*this, arch, layer.squeeze_excite_decision)]};
      }
      layer.skippable = layer.wrapped = false;
      kept.push_back(layer);
    }
    block.layers = std::move(kept);
    block.filters = {block.filters[chosen(*this, arch, block.filters_decision)]};
  }
  network.number_decisions();
  return network;
}

Space Space::scaled(double multiplier) const {
  require(multiplier > 0 && multiplier <= 16, name, ": a width multiplier of ", multiplier,
          " is not above 0 and at most 16");
  if (multiplier == 1) return *this;
  Space space = *this;
  space.name += ", width " + text(multiplier);
  for (Block& block : space.blocks) {
    for (int& f : block.filters) f = round_filters(f, multiplier, divisor);
    block.filters.erase(std::unique(block.filters.begin(), block.filters.end()),
                        block.filters.end());
  }
  space.number_decisions();
  return space;
}

Space Space::small_images() const {
  Space space = *this;
  space.name += ", small images";
  int left = 2;
  for (Block& block : space.blocks) {
    for (Layer& layer : block.layers) {
      if (layer.stride == 2 && left > 0) {
        layer.stride = 1;
        --left;
      }
    }
  }
  return space;
}

}  // namespace tunas::search
