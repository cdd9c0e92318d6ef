#include "search/foreign_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>

#include "kernels/error.h"
#include "search/arch.h"

namespace tunas::search {
namespace {

using Kind = NamedConv::Kind;

bool is_mobile(LayerKind kind) {
  return kind == LayerKind::separable || kind == LayerKind::bottleneck;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool any_starts(const std::vector<std::string>& names, std::string_view with) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.starts_with(with); });
}

std::vector<std::string_view> split(std::string_view name) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    words.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// The number that `word` is, -1: none.
int number(std::string_view word) {
  int value = -1;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() ? value : -1;
}

/// Where the inverted residual that `words` are a tensor of stands in its network: up to two
/// numbers; none where it is no tensor of one.
std::optional<std::array<int, 2>> place_of(Scheme scheme,
                                           const std::vector<std::string_view>& words) {
  const auto at = [&](std::size_t i) { return i < words.size() ? words[i] : ""; };
  const int first = number(at(1)), second = number(at(2));
  switch (scheme) {
    case Scheme::torchvision_v2:
    case Scheme::torchvision_v3:
      if (at(0) != "features" || first < 0 || (at(2) != "conv" && at(2) != "block")) break;
      return {{first, 0}};
    case Scheme::torchvision_mnasnet:
      if (at(0) != "layers" || first < 0) break;
      if (first >= 3 && first <= 7)
        return {{0, 0}};  // the separable layer: five numbers of its own
      if (second < 0 || at(3) != "layers") break;
      return {{first, second}};
    case Scheme::timm:
      if (at(0) != "blocks" || first < 0 || second < 0 || at(3) != "conv_dw") break;
      return {{first, second}};
    case Scheme::ofa:
      if (at(0) != "blocks" || first < 0 || (at(2) != "conv" && at(2) != "mobile_inverted_conv")) {
        break;
      }
      return {{first, 0}};
    case Scheme::own:
      break;
  }
  return std::nullopt;
}

std::string prefix_at(Scheme scheme, std::array<int, 2> place, const char* ofa_word) {
  const std::string first = std::to_string(place[0]), second = std::to_string(place[1]);
  switch (scheme) {
    case Scheme::torchvision_v2:
    case Scheme::torchvision_v3:
      return "features." + first;
    case Scheme::torchvision_mnasnet:
      return place[0] == 0 ? "layers" : "layers." + first + "." + second;
    case Scheme::timm:
      return "blocks." + first + "." + second;
    case Scheme::ofa:
      return "blocks." + first + "." + ofa_word;
    case Scheme::own:
      break;
  }
  return "";
}

/// The stage or the place of the last inverted residual.
int last_number(const std::vector<std::string>& prefixes) {
  if (prefixes.empty()) return 0;
  const std::vector<std::string_view> words = split(prefixes.back());
  return words.size() > 1 ? number(words[1]) : 0;
}

/// The convolutions of one inverted residual: conv and norm of each of the three, and the gate's
/// two.
struct BlockNames {
  std::array<std::string, 2> expand, depthwise, project;
  std::string reduce, widen;
};

BlockNames names_in(Scheme scheme, const std::string& p, bool expands, bool gated) {
  const auto at = [&](const std::string& word, int i) { return p + word + std::to_string(i); };
  const auto pair = [](const std::string& q) { return std::array{q + ".0", q + ".1"}; };
  const int e = expands ? 1 : 0, g = gated ? 1 : 0;
  switch (scheme) {
    case Scheme::torchvision_v2:
      return {pair(p + ".conv.0"),
              pair(at(".conv.", e)),
              {at(".conv.", e + 1), at(".conv.", e + 2)},
              "",
              ""};
    case Scheme::torchvision_v3:
      return {pair(p + ".block.0"), pair(at(".block.", e)), pair(at(".block.", e + g + 1)),
              at(".block.", e + 1) + ".fc1", at(".block.", e + 1) + ".fc2"};
    case Scheme::torchvision_mnasnet:
      if (p == "layers") return {{}, {p + ".3", p + ".4"}, {p + ".6", p + ".7"}, "", ""};
      return {{p + ".layers.0", p + ".layers.1"},
              {p + ".layers.3", p + ".layers.4"},
              {p + ".layers.6", p + ".layers.7"},
              "",
              ""};
    case Scheme::timm:
      return {{p + ".conv_pw", p + ".bn1"},
              {p + ".conv_dw", expands ? p + ".bn2" : p + ".bn1"},
              {expands ? p + ".conv_pwl" : p + ".conv_pw", expands ? p + ".bn3" : p + ".bn2"},
              p + ".se.conv_reduce",
              p + ".se.conv_expand"};
    case Scheme::ofa:
      return {{p + ".inverted_bottleneck.conv", p + ".inverted_bottleneck.bn"},
              {p + ".depth_conv.conv", p + ".depth_conv.bn"},
              {p + ".point_linear.conv", p + ".point_linear.bn"},
              p + ".depth_conv.se.fc.reduce",
              p + ".depth_conv.se.fc.expand"};
    case Scheme::own:
      break;
  }
  return {};
}

std::array<std::string, 2> stem_names(Scheme scheme) {
  switch (scheme) {
    case Scheme::torchvision_v2:
    case Scheme::torchvision_v3:
      return {"features.0.0", "features.0.1"};
    case Scheme::torchvision_mnasnet:
      return {"layers.0", "layers.1"};
    case Scheme::timm:
      return {"conv_stem", "bn1"};
    case Scheme::ofa:
      return {"first_conv.conv", "first_conv.bn"};
    case Scheme::own:
      break;
  }
  return {};
}

/// A 1 x 1 convolution behind the blocks; `v3`: the network has another one, with bias, behind the
/// global pool. Empty: there is no such layer under this scheme.
std::array<std::string, 2> head_names(Scheme scheme, int last, bool biased, bool v3) {
  const std::string next = std::to_string(last + 1), after = std::to_string(last + 2);
  switch (scheme) {
    case Scheme::torchvision_v2:
      if (v3) break;
      return {"features." + next + ".0", "features." + next + ".1"};
    case Scheme::torchvision_v3:
      if (!v3) break;
      if (biased) return {"classifier.0", ""};
      return {"features." + next + ".0", "features." + next + ".1"};
    case Scheme::torchvision_mnasnet:
      if (v3) break;
      return {"layers." + next, "layers." + after};
    case Scheme::timm:
      if (!v3) return {"conv_head", "bn2"};
      if (biased) return {"conv_head", ""};
      return {"blocks." + next + ".0.conv", "blocks." + next + ".0.bn1"};
    case Scheme::ofa:
      if (biased) return {"feature_mix_layer.conv", ""};
      if (v3) return {"final_expand_layer.conv", "final_expand_layer.bn"};
      return {"feature_mix_layer.conv", "feature_mix_layer.bn"};
    case Scheme::own:
      break;
  }
  return {};
}

const char* classifier_name(Scheme scheme) {
  switch (scheme) {
    case Scheme::torchvision_v2:
    case Scheme::torchvision_mnasnet:
      return "classifier.1";
    case Scheme::torchvision_v3:
      return "classifier.3";
    case Scheme::timm:
      return "classifier";
    case Scheme::ofa:
      return "classifier.linear";
    case Scheme::own:
      break;
  }
  return "";
}

void add_mobile(std::vector<NamedConv>& convs, const Layer& layer, const std::string& own,
                const BlockNames& names) {
  const std::string k = fmt::format("_{}", layer.kernels.front());
  const bool expands = layer.kind == LayerKind::bottleneck;
  if (expands)
    convs.push_back({Kind::pointwise, own + "/expand", names.expand[0], names.expand[1]});
  convs.push_back(
      {Kind::depthwise, own + "/depthwise" + k, names.depthwise[0], names.depthwise[1]});
  if (expands && layer.squeeze_excite.front() == 1) {
    convs.push_back({Kind::biased, own + "/squeeze_excite/reduce", names.reduce, ""});
    convs.push_back({Kind::biased, own + "/squeeze_excite/expand", names.widen, ""});
  }
  const bool one = expands || layer.shared_pointwise;
  convs.push_back({Kind::pointwise, own + (one ? "/project" : "/project" + k), names.project[0],
                   names.project[1]});
}

}  // namespace

const char* name_of(Scheme scheme) {
  constexpr const char* kNames[] = {"tunas",
                                    "torchvision's mobilenet_v2",
                                    "torchvision's mobilenet_v3",
                                    "torchvision's mnasnet",
                                    "timm",
                                    "ProxylessNAS and once-for-all"};
  return kNames[static_cast<int>(scheme)];
}

std::optional<Scheme> scheme_of(const std::vector<std::string>& names) {
  if (has(names, "classifier/kernel")) return Scheme::own;
  if (has(names, "conv_stem.weight")) return Scheme::timm;
  if (has(names, "first_conv.conv.weight")) return Scheme::ofa;
  if (has(names, "features.0.0.weight")) {
    if (any_starts(names, "features.1.conv.")) return Scheme::torchvision_v2;
    if (any_starts(names, "features.1.block.")) return Scheme::torchvision_v3;
  }
  if (has(names, "layers.0.weight") && any_starts(names, "layers.8.0.layers.")) {
    return Scheme::torchvision_mnasnet;
  }
  return std::nullopt;
}

std::vector<std::string> block_prefixes(Scheme scheme, const std::vector<std::string>& names) {
  std::set<std::array<int, 2>> places;
  for (const std::string& name : names) {
    if (const auto place = place_of(scheme, split(name))) places.insert(*place);
  }
  const bool old = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find(".mobile_inverted_conv.") != std::string::npos;
  });
  std::vector<std::string> prefixes;
  for (const auto& place : places) {
    prefixes.push_back(prefix_at(scheme, place, old ? "mobile_inverted_conv" : "conv"));
  }
  return prefixes;
}

std::vector<std::string> block_prefixes(Scheme scheme, const Space& network) {
  std::vector<std::string> prefixes;
  int stage = -1, in_stage = 0, count = 0;
  for (std::size_t b = 0; b < network.blocks.size(); ++b) {
    bool opened = false;
    for (const Layer& layer : network.blocks[b].layers) {
      if (!is_mobile(layer.kind)) continue;
      if (!opened || layer.stride != 1) {
        ++stage;
        in_stage = 0;
      }
      opened = true;
      std::array<int, 2> place = {stage, in_stage++};
      if (scheme == Scheme::torchvision_v2 || scheme == Scheme::torchvision_v3) {
        place = {1 + count, 0};
      } else if (scheme == Scheme::torchvision_mnasnet && stage > 0) {
        place[0] = 7 + stage;
      } else if (scheme == Scheme::ofa) {
        place = {count, 0};
      }
      prefixes.push_back(prefix_at(scheme, place, "mobile_inverted_conv"));
      ++count;
    }
  }
  return prefixes;
}

std::vector<NamedConv> named_convs(const Space& network, Scheme scheme,
                                   const std::vector<std::string>& prefixes,
                                   const std::string& where) {
  const Plan plan = resolve(network, Arch::largest(network), network.resolution);
  std::size_t mobile = 0;
  bool v3 = false;
  for (const PlanLayer& layer : plan.layers) {
    mobile += is_mobile(layer.spec->kind);
    v3 = v3 || (layer.spec->kind == LayerKind::conv && !layer.spec->batch_norm);
  }
  if (mobile != prefixes.size()) {
    fail(Exit::data, where, ": has ", prefixes.size(), " inverted residuals, but ", network.name,
         " has ", mobile, "; pass the architecture of these weights");
  }
  std::vector<NamedConv> convs;
  std::size_t next = 0;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlanLayer& layer = plan.layers[i];
    const Layer& spec = *layer.spec;
    const std::string own =
        "blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer);
    if (is_mobile(spec.kind)) {
      const bool expands = spec.kind == LayerKind::bottleneck;
      const std::string& prefix = prefixes[next++];
      add_mobile(convs, spec, own,
                 names_in(scheme, prefix, expands, expands && layer.squeeze_excite > 0));
    } else if (spec.kind == LayerKind::conv) {
      const std::array<std::string, 2> names =
          i == 0 ? stem_names(scheme)
                 : head_names(scheme, last_number(prefixes), !spec.batch_norm, v3);
      const Kind kind = i == 0 ? Kind::stem : spec.batch_norm ? Kind::pointwise : Kind::biased;
      convs.push_back(
          {kind, own + "/conv_" + std::to_string(spec.kernels.front()), names[0], names[1]});
    }
  }
  convs.push_back({Kind::classifier, "classifier", classifier_name(scheme), ""});
  for (const NamedConv& conv : convs) {
    if (conv.conv.empty()) {
      fail(Exit::data, where, ": the names of ", name_of(scheme), " have none for ", conv.own,
           " of ", network.name, "; pass the architecture of these weights");
    }
  }
  return convs;
}

}  // namespace tunas::search
