// Rules of a space: kernels are 3, 5 or 7 (1 for a later conv), widths multiples of 8, options
// ascend; a block opens with the layer that sets its width; a residual keeps width and resolution.
#include "search/space_rules.h"

#include <algorithm>

#include "kernels/error.h"

namespace tunas::search {
namespace {

/// Options of a choice: at least one, at most what an Arch can number, strictly ascending.
template <class T>
void check_options(const std::vector<T>& options, const std::string& where, const char* what) {
  require(!options.empty() && options.size() <= 100, where, ": ", what, " has ", options.size(),
          " options; give 1 to 100");
  for (std::size_t i = 1; i < options.size(); ++i) {
    require(options[i - 1] < options[i], where, ": ", what, " lists ", options[i], " after ",
            options[i - 1], "; options must ascend");
  }
}

void check_kernels(const Layer& layer, bool pointwise, const std::string& where) {
  check_options(layer.kernels, where, "kernel");
  for (const int k : layer.kernels) {
    const bool valid = pointwise ? k == 1 : k == 3 || k == 5 || k == 7;
    require(valid, where, ": kernel is ", k,
            pointwise ? "; a conv after the first layer of the network must have kernel 1"
                      : ", not 3, 5 or 7");
  }
}

void check_bottleneck(const Layer& layer, const std::string& where) {
  check_options(layer.expansions, where, "expansion");
  check_options(layer.squeeze_excite, where, "squeeze_excite");
  for (const double e : layer.expansions) {
    require(e > 0 && e <= 64, where, ": expansion is ", e, ", not above 0 and at most 64");
  }
  require(layer.gate == Act::sigmoid || layer.gate == Act::hard_sigmoid, where,
          ": gate must be sigmoid or hard_sigmoid");
}

void check_residual(const Layer& layer, bool first, const std::string& where) {
  require(!layer.residual || (layer.stride == 1 && !first), where,
          ": a residual layer must have stride 1 and follow the first layer of its block, so that "
          "input and output have the same size");
  require(!layer.skippable || layer.residual, where,
          ": a skippable layer must be residual; write \"residual\": true");
  require(!layer.wrapped || !layer.skippable, where,
          ": a skippable layer cannot be wrapped as well; drop \"wrapped\"");
}

/// What the walk over the network knows at a layer.
struct Position {
  bool stem = true;         // no layer yet
  bool first = true;        // opens its block
  bool after_conv = false;  // the layer before is a conv
  bool pooled = false;
};

void check_conv(const Layer& layer, const Position& at, const std::string& where) {
  check_kernels(layer, !at.stem, where);
  require(at.stem || layer.stride == 1, where,
          ": a conv after the first layer of the network must have stride 1");
  require(!at.stem || layer.batch_norm, where,
          ": the first conv must have a batch norm; drop \"batch_norm\": false");
}

void check_layer(const Layer& layer, const Position& at, const std::string& where) {
  const bool wide = layer.kind == LayerKind::conv || layer.kind == LayerKind::separable ||
                    layer.kind == LayerKind::bottleneck;
  require(!at.stem || layer.kind == LayerKind::conv, where, ": a network begins with a conv");
  require(!at.first || wide, where,
          ": a block begins with a conv, separable or bottleneck, which sets its width");
  require(layer.stride == 1 || layer.stride == 2, where, ": stride is ", layer.stride,
          ", not 1 or 2");
  check_residual(layer, at.first, where);
  if (layer.kind == LayerKind::conv) check_conv(layer, at, where);
  if (layer.kind == LayerKind::separable || layer.kind == LayerKind::bottleneck) {
    check_kernels(layer, false, where);
    require(!at.pooled, where, ": after global_pool only conv and activation make sense");
  }
  if (layer.kind == LayerKind::bottleneck) check_bottleneck(layer, where);
  require(layer.kind != LayerKind::activation || at.after_conv, where,
          ": an activation must follow a conv; other layers have their own \"act\"");
  require(layer.kind != LayerKind::global_pool || !at.pooled, where,
          ": a second global_pool; a network has one");
}

void check_scalars(const Space& space, const std::string& where) {
  require(space.resolution >= 8 && space.resolution <= 4096 && space.resolution % 8 == 0, where,
          ": resolution is ", space.resolution, ", not a multiple of 8 from 8 to 4096");
  require(space.classes >= 2, where, ": classes is ", space.classes, "; give at least 2");
  require(space.divisor >= 8 && space.divisor % 8 == 0, where, ": divisor is ", space.divisor,
          ", not a multiple of 8");
  require(space.default_target >= 0, where, ": default_target is ", space.default_target,
          "; give a cost, or 0 for none");
  require(space.weight_decay >= 0 && space.weight_decay < 1, where, ": weight_decay is ",
          space.weight_decay, ", not from 0 to below 1");
  require(space.dropout >= 0 && space.dropout < 1, where, ": dropout is ", space.dropout,
          ", not from 0 to below 1");
  require(space.bn_epsilon > 0 && space.bn_epsilon < 1, where, ": bn_epsilon is ", space.bn_epsilon,
          ", not between 0 and 1");
}

}  // namespace

void check_rules(const Space& space, const std::string& where) {
  check_scalars(space, where);
  Position at;
  for (std::size_t b = 0; b < space.blocks.size(); ++b) {
    const Block& block = space.blocks[b];
    const std::string block_where = where + ": blocks/" + std::to_string(b);
    check_options(block.filters, block_where, "filters");
    for (const int f : block.filters) {
      require(f >= 8 && f <= 16384 && f % 8 == 0, block_where, ": filters is ", f,
              ", not a multiple of 8 from 8 to 16384");
    }
    require(!block.layers.empty(), block_where, ": layers is empty");
    at.first = true;
    for (std::size_t l = 0; l < block.layers.size(); ++l) {
      const Layer& layer = block.layers[l];
      check_layer(layer, at, block_where + "/layers/" + std::to_string(l));
      at = {.stem = false,
            .first = false,
            .after_conv = layer.kind == LayerKind::conv,
            .pooled = at.pooled || layer.kind == LayerKind::global_pool};
    }
  }
  require(at.pooled, where, ": no layer is a global_pool; put one before the classifier");
}

}  // namespace tunas::search
