// tunas import: weights of another program, under its names, become weights and architecture of
// this one.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "engine/file.h"
#include "search/foreign_weights.h"
#include "tools/run_folder.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

using engine::Safetensors;
using Json = nlohmann::ordered_json;

/// PyTorch's own files are zip archives; reading them would mean running what they hold.
void refuse_pickle(const std::string& file) {
  char begin[2] = {};
  std::ifstream(file, std::ios::binary).read(begin, sizeof begin);
  if (begin[0] == 'P' && begin[1] == 'K') {
    fail(Exit::data, file,
         ": is a file of torch.save; turn it into safetensors with Python: "
         "safetensors.torch.save_file(torch.load(FILE, map_location='cpu'), 'w.safetensors')");
  }
}

/// Where the two files go: into a new folder, or beside each other.
struct Place {
  std::string weights, arch;

  static Place of(const Config& config) {
    const std::string& out = config.text("out");
    if (!out.ends_with(".safetensors")) {
      const RunFolder folder(out, config.flag("overwrite") ? RunFolder::Existing::overwrite
                                                           : RunFolder::Existing::refuse);
      return {folder.file("weights.safetensors"), folder.file("arch.json")};
    }
    Place place{out, out.substr(0, out.size() - 12) + ".arch.json"};
    for (const std::string& file : {place.weights, place.arch}) {
      require(config.flag("overwrite") || !std::filesystem::exists(file), file,
              ": is there already; choose another --out, or --overwrite to replace it");
    }
    return place;
  }
};

Network network_of(const Config& config, const search::Family& family) {
  if (config.has("arch")) return open_network(config.text("arch"));
  require(*family.reference != 0, "these are weights of ", family.name,
          ", of which there are many networks; pass theirs, a net.config, with --arch");
  return open_network(family.reference);
}

std::string report_text(const Json& report) {
  std::string text =
      fmt::format("family   {}\nnetwork  {}\nclasses  {}\nread     {} tensors\n",
                  report["family"].get<std::string>(), report["network"].get<std::string>(),
                  report["classes"].get<int>(), report["read"].get<int>());
  text += fmt::format("unneeded {} tensors, num_batches_tracked\n", report["unneeded"].size());
  for (const Json& assumed : report["assumed"]) {
    text += "assumed  " + assumed.get<std::string>() + "\n";
  }
  return text + fmt::format("weights  {}\narch     {}\n", report["weights"].get<std::string>(),
                            report["arch"].get<std::string>());
}

Exit run(const Config& config) {
  const std::string file = config.text("weights");
  refuse_pickle(file);
  const Safetensors weights(file);
  const auto known = search::family_of(weights);
  require(known.has_value() && search::scheme_of(weights) != search::Scheme::own, file,
          ": has this program's own names already; tunas eval and export read it as it is");
  Network network = network_of(config, *known);
  network.alone = search::fitted(network.alone, network.origin, weights);
  network.alone.resolution = resolution(config, network.alone);
  const search::Family family = search::with_facts_of(*known, network.alone);
  network.preprocess = search::preprocess_of(family.images);
  const Place place = Place::of(config);

  const engine::Device device = engine::Device::cpu(1);
  search::Model model(device, network.alone);
  const search::WeightsReport report = search::load_weights_any(model.params, network.alone, file);
  const std::filesystem::path folder = std::filesystem::path(place.weights).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) fail(Exit::data, folder.string(), ": cannot be created (", error.message(), ")");
  auto metadata = search::metadata_of(family);
  metadata["space"] = network.alone.name;
  search::save_weights(model.params, place.weights, metadata);
  engine::write_file(place.arch, describe(network, network.alone.resolution).dump(2) + "\n");

  const Json all = {{"family", family.name},
                    {"names", name_of(report.scheme)},
                    {"network", network.alone.name},
                    {"classes", network.alone.classes},
                    {"read", report.read},
                    {"unneeded", report.ignored},
                    {"assumed", report.assumed},
                    {"weights", place.weights},
                    {"arch", place.arch}};
  std::fputs((config.flag("json") ? all.dump(2) + "\n" : report_text(all)).c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb import_verb() {
  return {"import",
          "weights of torchvision, timm or once-for-all as weights of this program",
          {{.name = "weights",
            .unit = "FILE",
            .help = "safetensors under the other program's names",
            .role = Role::positional},
           {.name = "arch",
            .unit = "FILE|NAME",
            .help = "their network (default: the one that the names imply)"},
           {.name = "out",
            .unit = "DIR|FILE",
            .help = "a new folder for weights.safetensors and arch.json, or X.safetensors for it "
                    "and X.arch.json",
            .letter = 'o'},
           {.name = "overwrite",
            .type = Type::flag,
            .help = "replace what is in --out",
            .role = Role::call},
           resolution_option(),
           json_option()},
          run};
}

}  // namespace tunas::tools
