// Which space, and which network of it, a call is about: the options that several verbs share and
// what they select.
//
// arch.json, as `tunas search` leaves it and `tunas arch show --json` prints it:
//   space, indices   where the network was chosen from (null: a network by itself)
//   resolution, params, macs, cost_ms (null: in no latency table), layers
//   network          the network, as a space with one point: all that training needs
//   preprocess       how a training showed it its images (tools/preprocess.h); absent: as published
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/preprocess.h"
#include "search/arch.h"
#include "search/family.h"
#include "tools/config.h"

namespace tunas::tools {

Option space_option();
Option indices_option();
Option name_option();
Option arch_option();
Option json_option();
Option resolution_option();
Option seed_option();
Option cost_option();
/// --config.
Option config_option();
/// --width, --small-images.
std::vector<Option> variant_options();

/// Error(Exit::usage) where the file of option `output` is also that of one of `others`: it would
/// be lost.
void check_output(const Config& config, const std::string& output,
                  const std::vector<std::string>& others);

/// `first` and all of `lists`, in order.
std::vector<Option> join(std::vector<Option> first, const std::vector<std::vector<Option>>& lists);

/// A published space by name, or a file that ends in .json.
search::Space open_space(const std::string& name);
/// `space` as --width and --small-images change it.
search::Space variant(const search::Space& space, const Config& config);
/// --resolution, a multiple of 8; otherwise the space's own.
int resolution(const Config& config, const search::Space& space);

struct Network {
  search::Space alone;  // one point
  std::string space;    // name of the space it was chosen from; empty: none
  std::string indices;  // its place there
  std::optional<Preprocess> preprocess = {};
  /// Whether it came from a file, or is a reference network that weights may fit to themselves.
  search::Origin origin = search::Origin::file;
};

Network choose(const search::Space& space, const search::Arch& arch);
/// `network` as --width and --small-images change it; it then has no place in a space any more.
Network variant(const Network& network, const Config& config);
/// A reference network, with its place in a published space where it has one.
Network named_network(const std::string& name);
/// An arch.json, a space file with one point, a net.config of ProxylessNAS or once-for-all
/// (search/net_config.h) or timm's block strings (search/block_strings.h), told apart by their
/// keys. Error naming the file.
Network load_network(const std::string& file);
/// --arch FILE|NAME.
Network open_network(const std::string& name_or_file);

/// How `network` with these weights sees its images at `to` pixels: as its arch.json says, or the
/// weights, or as published. What they say holds at `from` pixels; at others the same share of an
/// image is shown.
Preprocess preprocess_of(const Network& network, const engine::Safetensors& weights, int from,
                         int to);

/// What arch.json holds for `network` at `resolution`.
nlohmann::ordered_json describe(const Network& network, int resolution);

}  // namespace tunas::tools
