// Architectures as the `net.config` JSON of ProxylessNAS and once-for-all
// (https://github.com/mit-han-lab/once-for-all, networks/proxyless_nets.py and mobilenet_v3.py):
// first_conv, blocks of an inverted residual and a shortcut, [final_expand_layer], global pool,
// feature_mix_layer, classifier. A block whose convolution is a ZeroLayer is the identity. Middle
// width: mid_channels, or where that is null round(in_channels * expand_ratio); there is no
// expansion where expand_ratio is 1. Padding is k/2 on both sides, gates are hard sigmoids.
#pragma once

#include <string>

#include "search/space.h"

namespace tunas::search {

/// Whether a JSON document is a net.config, judged by its keys.
bool is_net_config(const std::string& json);

/// The network as a Space with one point; `where` names the source in errors.
/// Error(Exit::usage) where it has parts that this engine does not.
Space parse_net_config(const std::string& json, const std::string& where);

/// A network with one point as net.config. Error(Exit::usage) where the format has no words for it.
/// Padding has none either: whoever reads it pads by k/2.
std::string net_config(const Space& network);

}  // namespace tunas::search
