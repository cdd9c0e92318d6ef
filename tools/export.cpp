// tunas export: a trained network for other programs, as ONNX or as weights under their names.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "search/foreign_weights.h"
#include "search/network_onnx.h"
#include "tools/preprocess.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using engine::Safetensors;
using search::Scheme;
using Metadata = std::map<std::string, std::string>;

/// What the program that runs the file has to do to its images.
Metadata preprocessing(const Preprocess& preprocess, int resolution) {
  const nlohmann::ordered_json facts = describe(preprocess);
  const auto three = [&](const char* key) {
    return fmt::format("{},{},{}", facts[key][0].dump(), facts[key][1].dump(),
                       facts[key][2].dump());
  };
  Metadata metadata = {
      {"input", "float32 [batch][3][height][width], RGB, (x / 255 - mean) / std"},
      {"resolution", std::to_string(resolution)},
      {"interpolation", facts["interpolation"].get<std::string>()},
      {"mean", three("mean")},
      {"std", three("std")},
      {"crop", "the central square of 0.875 of the shorter side, resized to resolution"}};
  if (preprocess.resize > 0) {
    metadata["resize"] = std::to_string(preprocess.resize);
    metadata["crop"] = "the shorter side resized to resize, then the central square of resolution";
  }
  return metadata;
}

Scheme scheme_of(const Config& config, const search::Space& alone) {
  const std::string& names = config.text("names");
  if (names == "timm") return Scheme::timm;
  if (names == "ofa") return Scheme::ofa;
  const std::optional<Scheme> scheme = search::torchvision_scheme(alone);
  require(
      scheme.has_value(), alone.name,
      " has the shape of none of torchvision's mobilenet_v2, mobilenet_v3_large and mnasnet1_0; "
      "--names timm or --names ofa have names for other networks");
  return *scheme;
}

/// Says where the other program's network would compute something else with these weights.
void compare(const search::Family& here, const search::Family& there) {
  std::string apart;
  const auto differs = [&](bool is_so, const std::string& what) {
    if (is_so) apart += (apart.empty() ? "" : ", ") + what;
  };
  differs(here.padding != there.padding, "padding (TensorFlow's here)");
  differs(here.bn_epsilon != there.bn_epsilon,
          fmt::format("epsilon of batch norm ({} here)", here.bn_epsilon));
  differs(here.relu != there.relu,
          here.relu == Act::relu ? "activation (ReLU here)" : "activation (ReLU6 here)");
  differs(here.gate != there.gate, "gate (sigmoid here)");
  if (!apart.empty()) {
    spdlog::warn("{} differs in {}; change it there, or its scores will be others", there.name,
                 apart);
  }
}

void write_safetensors(const Config& config, const search::Model& model, const search::Space& alone,
                       const Preprocess& preprocess) {
  const Scheme scheme = scheme_of(config, alone);
  const auto families = search::families();
  search::Family family = *std::find_if(families.begin(), families.end(),
                                        [&](const auto& each) { return each.scheme == scheme; });
  const search::Family there = family;
  family.images = search::facts_of(preprocess, alone.resolution);
  family = search::with_facts_of(family, alone);
  compare(family, there);
  Metadata metadata = search::metadata_of(family);
  metadata.erase("family");  // the names tell
  metadata["arch"] = alone.name;
  search::save_foreign_weights(model.params, alone, scheme, config.text("safetensors"), metadata);
}

Exit run(const Config& config) {
  require(config.has("onnx") || config.has("safetensors"),
          "tunas export needs --onnx FILE or --safetensors FILE");
  const std::string file = config.text("weights");
  check_output(config, "onnx", {"weights", "arch", "safetensors"});
  check_output(config, "safetensors", {"weights", "arch"});
  const Safetensors weights(file);
  const Network network = variant(open_network(config.text("arch")), config);
  search::Space alone = search::fitted(network.alone, network.origin, weights);
  const int pixels = resolution(config, alone);
  const Preprocess preprocess = preprocess_of(network, weights, alone.resolution, pixels);
  alone.resolution = pixels;
  const engine::Device device = engine::Device::cpu(1);
  search::Model model(device, alone);
  search::load_weights_any(model.params, alone, file);
  open_log();
  if (config.has("onnx")) {
    search::write_onnx(
        {alone, model.params, preprocessing(preprocess, alone.resolution), TUNAS_VERSION},
        config.text("onnx"));
  }
  if (config.has("safetensors")) write_safetensors(config, model, alone, preprocess);
  return Exit::ok;
}

}  // namespace

Verb export_verb() {
  return {"export", "a trained network for other programs: ONNX, or weights under their names",
          join({arch_option(),
                {.name = "weights",
                 .unit = "FILE",
                 .help = "weights.safetensors of a training, or another program's"},
                {.name = "onnx",
                 .unit = "FILE",
                 .help = "write the network as ONNX (opset 17, batch norms folded, open batch)"},
                {.name = "safetensors",
                 .unit = "FILE",
                 .help = "write the weights under the names of --names"},
                {.name = "names",
                 .fallback = "torchvision",
                 .help = "whose: torchvision's mobilenet_v2, mobilenet_v3_large and mnasnet1_0; "
                         "timm and ofa for any network",
                 .choices = {"torchvision", "timm", "ofa"}},
                resolution_option()},
               {variant_options()}),
          run};
}

}  // namespace tunas::tools
