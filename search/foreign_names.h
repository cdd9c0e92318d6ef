// The names that other programs give the tensors of the same networks.
//
//   torchvision   mobilenet_v2   features.2.conv.0.0.weight
//                 mobilenet_v3   features.2.block.0.0.weight
//                 mnasnet        layers.8.0.layers.0.weight
//   timm          conv_stem, blocks.1.0.conv_pw.weight, conv_head
//   ofa           first_conv, blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.weight:
//                 ProxylessNAS and once-for-all (whose newer version says conv instead)
//   own           blocks/2/layers/0/expand/kernel (engine/layers.h)
//
// Layers are matched by their order: the first inverted residual of the file is the first of the
// network, whatever number it has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "search/space.h"

namespace tunas::search {

enum class Scheme : unsigned char {
  own,
  torchvision_v2,
  torchvision_v3,
  torchvision_mnasnet,
  timm,
  ofa
};

const char* name_of(Scheme scheme);

/// What the names of a file's tensors are; none: not recognised.
std::optional<Scheme> scheme_of(const std::vector<std::string>& names);

/// One convolution with what belongs to it: our path and their prefixes.
struct NamedConv {
  enum class Kind : unsigned char { stem, depthwise, pointwise, biased, classifier };
  Kind kind = Kind::pointwise;
  std::string own;   // blocks/2/layers/0/expand
  std::string conv;  // features.2.conv.0.0
  std::string norm;  // features.2.conv.0.1; empty: a bias instead
};

/// The prefixes of the inverted residuals in `names`, in their order: features.1, features.2, ...
std::vector<std::string> block_prefixes(Scheme scheme, const std::vector<std::string>& names);
/// Those that the other program would give to the layers of `network`.
std::vector<std::string> block_prefixes(Scheme scheme, const Space& network);

/// All convolutions of `network`, a space with one point, under the names of `scheme` (not own)
/// with the given prefixes of its inverted residuals. Error(Exit::data) beginning with `where`
/// where there are more or fewer of them, or no names for a layer.
std::vector<NamedConv> named_convs(const Space& network, Scheme scheme,
                                   const std::vector<std::string>& prefixes,
                                   const std::string& where);

}  // namespace tunas::search
