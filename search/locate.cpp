#include "search/locate.h"

#include <algorithm>
#include <sstream>

#include "kernels/error.h"

namespace tunas::search {
namespace {

using Layers = std::vector<const Layer*>;

Layers computing_layers(const Block& block) {
  Layers layers;
  for (const Layer& layer : block.layers) {
    if (layer.kind != LayerKind::endpoint) layers.push_back(&layer);
  }
  return layers;
}

/// Sets `decision` to the place of `value` among `options`; false where it is none of them.
template <class T>
bool take(Arch& arch, int decision, const std::vector<T>& options, const std::vector<T>& value) {
  if (options.empty() && value.empty()) return true;
  const auto found = std::find(options.begin(), options.end(), value.front());
  if (found == options.end()) return false;
  if (decision != kFixed) arch.values[decision] = static_cast<std::int8_t>(found - options.begin());
  return true;
}

/// Whether `layer` can be `wanted`; its decisions are set accordingly.
bool fits(Arch& arch, const Layer& layer, const Layer& wanted) {
  const bool gated = !wanted.squeeze_excite.empty() && wanted.squeeze_excite.front() == 1;
  return layer.kind == wanted.kind && layer.stride == wanted.stride && layer.act == wanted.act &&
         layer.batch_norm == wanted.batch_norm && layer.residual == wanted.residual &&
         (!gated || layer.gate == wanted.gate) &&
         take(arch, layer.kernel_decision, layer.kernels, wanted.kernels) &&
         take(arch, layer.expansion_decision, layer.expansions, wanted.expansions) &&
         take(arch, layer.squeeze_excite_decision, layer.squeeze_excite, wanted.squeeze_excite);
}

/// Matches the layers of one block.
struct Matcher {
  Layers open, wanted;
  Arch& arch;
  std::size_t furthest = 0;  // wanted layers that found a place, at best

  /// Matches from open layer i and wanted layer j on.
  bool match(std::size_t i, std::size_t j) {
    furthest = std::max(furthest, j);
    if (i == open.size()) return j == wanted.size();
    const Layer& layer = *open[i];
    const Arch before = arch;
    if (j < wanted.size() && fits(arch, layer, *wanted[j]) && match(i + 1, j + 1)) return true;
    arch = before;
    if (!layer.skippable) return false;
    arch.values[layer.skip_decision] = 1;
    return match(i + 1, j);
  }
};

}  // namespace

Location locate(const Space& network, const Space& space) {
  for (const Decision& decision : network.decisions) {
    require(decision.options.size() == 1, network.name, " is not a single network: ", decision.path,
            " has ", decision.options.size(), " options");
  }
  std::ostringstream reason;
  if (network.blocks.size() != space.blocks.size()) {
    reason << "it has " << network.blocks.size() << " blocks, not " << space.blocks.size();
    return {std::nullopt, reason.str()};
  }
  Arch arch;
  arch.values.resize(space.decisions.size());
  for (std::size_t b = 0; b < space.blocks.size(); ++b) {
    const Block& block = space.blocks[b];
    const std::vector<int>& filters = network.blocks[b].filters;
    if (!take(arch, block.filters_decision, block.filters, filters)) {
      reason << "block " << b << " has " << filters.front() << " filters, which is no option there";
      return {std::nullopt, reason.str()};
    }
    Matcher matcher{computing_layers(block), computing_layers(network.blocks[b]), arch};
    if (!matcher.match(0, 0)) {
      reason << "block " << b;
      if (matcher.furthest < matcher.wanted.size()) {
        reason << " offers no place for its layer " << matcher.furthest;
      } else {
        reason << " has fewer layers than the space demands";
      }
      return {std::nullopt, reason.str()};
    }
  }
  return {arch, ""};
}

}  // namespace tunas::search
