// tunas arch show: the layers of one network, its size and its cost. tunas arch export: the network
// in the words of another program.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>

#include "search/block_strings.h"
#include "search/locate.h"
#include "search/net_config.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

Network selected(const Config& config) {
  const std::string way = config.one_of({"space", "name", "file"});
  require(!way.empty(),
          "a network is needed: --space SPACE --indices I, --name NAME or --file arch.json");
  if (way == "file") return variant(load_network(config.text("file")), config);
  if (way == "name") return variant(named_network(config.text("name")), config);
  const search::Space space = variant(open_space(config.text("space")), config);
  return choose(space, search::Arch::parse(config.text("indices"), space));
}

std::string cell(const Json& row, const char* key) {
  if (!row.contains(key)) return "";
  return row[key].is_string() ? row[key].get<std::string>() : row[key].dump();
}

std::string table(const Json& all) {
  constexpr const char* kRow =
      "{:>5}  {:<12}{:>12}{:>6}{:>7}{:>6}{:>8}{:>8}{:>6}  {:<13}{:<10}{:>10}{:>13}\n";
  std::string text =
      fmt::format(fmt::runtime(kRow), "block", "op", "in -> out", "c_in", "c_exp", "c_out",
                  "kernel", "stride", "se", "act", "residual", "params", "macs");
  for (const Json& row : all["layers"]) {
    text +=
        fmt::format(fmt::runtime(kRow), cell(row, "block"), cell(row, "op"),
                    cell(row, "in_resolution") + " -> " + cell(row, "out_resolution"),
                    cell(row, "c_in"), cell(row, "c_exp"), cell(row, "c_out"), cell(row, "kernel"),
                    cell(row, "stride"), cell(row, "squeeze_excite"), cell(row, "act"),
                    row.contains("residual") ? "yes" : "", cell(row, "params"), cell(row, "macs"));
  }
  text += fmt::format("\nclassifier to {} classes\n", cell(all["network"], "classes"));
  text += fmt::format("parameters      {}\nmultiply-adds   {} at {} pixels\n", cell(all, "params"),
                      cell(all, "macs"), cell(all, "resolution"));
  text += all["cost_ms"].is_null()
              ? std::string("cost            in no latency table at this resolution\n")
              : fmt::format("cost            {:.4f} ms\n", all["cost_ms"].get<double>());
  if (!all["indices"].is_null()) {
    text += fmt::format("indices         {} of {}\n", cell(all, "indices"), cell(all, "space"));
  }
  return text;
}

Exit show(const Config& config) {
  const Network network = selected(config);
  const Json all = describe(network, resolution(config, network.alone));
  std::fputs((config.flag("json") ? all.dump(2) + "\n" : table(all)).c_str(), stdout);
  return Exit::ok;
}

/// The network's place in the space it was chosen from, or in the first published one that has it.
std::string indices_of(const Network& network) {
  if (!network.indices.empty()) return network.indices;
  for (const std::string& name : search::Space::names()) {
    if (!search::Space::is_search_space(name)) continue;
    const search::Location place = search::locate(network.alone, search::Space::named(name));
    if (place.arch) return place.arch->indices();
  }
  fail(Exit::usage, network.alone.name,
       " is in no published space, so it has no indices; choose another --format");
}

Exit write(const Config& config) {
  Network network = selected(config);
  network.alone.resolution = resolution(config, network.alone);
  const std::string& format = config.text("format");
  std::string text;
  if (format == "net-config") {
    text = search::net_config(network.alone);
    if (network.alone.padding == Padding::same) {
      open_log();
      spdlog::warn(
          "a net.config cannot say that {} pads as TensorFlow does; tell its reader, as in "
          "tunas eval --padding same",
          network.alone.name);
    }
  } else if (format == "timm") {
    text = search::block_strings(network.alone);
  } else if (format == "indices") {
    text = indices_of(network) + "\n";
  } else {
    text = describe(network, network.alone.resolution).dump(2) + "\n";
  }
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

std::vector<Option> network_options() {
  return {space_option(),
          indices_option(),
          name_option(),
          {.name = "file",
           .unit = "FILE",
           .help = "an arch.json, a net.config or timm's block strings"},
          resolution_option()};
}

}  // namespace

Verb arch_show_verb() {
  return {"arch show", "layers, parameters, multiply-adds and cost of a network",
          join(network_options(), {{json_option()}, variant_options()}), show};
}

Verb arch_export_verb() {
  return {"arch export", "a network in another program's words, on standard output",
          join(network_options(),
               {{{.name = "format",
                  .fallback = "json",
                  .help = "json: an arch.json; net-config: ProxylessNAS and once-for-all; timm: "
                          "block strings; indices: place in a published space",
                  .choices = {"json", "net-config", "timm", "indices"}}},
                variant_options()}),
          write};
}

}  // namespace tunas::tools
