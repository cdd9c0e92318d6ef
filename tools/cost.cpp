// tunas cost: what architectures cost, one number a line with 6 decimals.
#include <fmt/format.h>

#include <cstdio>
#include <sstream>

#include "engine/file.h"
#include "search/cost_model.h"
#include "search/locate.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

using search::Arch;
using search::Space;

/// One architecture a line; an Error names file and line.
std::vector<Arch> read_archs(const std::string& file, const Space& space) {
  std::istringstream lines(engine::read_file(file));
  std::vector<Arch> archs;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() && (lines >> std::ws).eof()) break;  // blank lines at the end
    try {
      archs.push_back(Arch::parse(line, space));
    } catch (const Error& error) {
      fail(error.code(), file, " line ", number, ": ", error.what());
    }
  }
  if (archs.empty()) fail(Exit::data, file, ": is empty; it needs one indices string a line");
  return archs;
}

/// The place of a network in the space that --space asks for.
Arch place(const Space& network, const Space& space) {
  const search::Location location = search::locate(network, space);
  require(location.arch.has_value(), network.name, " is not in ", space.name, ": ", location.reason,
          "; leave --space out, or use --cost macs without it");
  return *location.arch;
}

std::vector<Arch> selected(const Config& config, const std::string& way, const Space& space) {
  if (way == "name") {
    const Space network = variant(named_network(config.text("name")).alone, config);
    if (config.has("space")) return {place(network, space)};
    return {{std::vector<std::int8_t>(network.decisions.size(), 0)}};
  }
  if (way == "indices-file") return read_archs(config.text("indices-file"), space);
  return {Arch::parse(config.text("indices"), space)};
}

Exit run(const Config& config) {
  const std::string way = config.one_of({"indices", "indices-file", "name"});
  require(!way.empty(), "tunas cost needs one of --indices I, --indices-file FILE or --name NAME");
  const std::string chosen = config.has("space") || way != "name" ? "space" : "name";
  const Space space = variant(open_space(config.text(chosen)), config);
  const std::vector<Arch> archs = selected(config, way, space);
  const auto model = search::CostModel::make(config.text("cost"), space, resolution(config, space));
  for (const Arch& arch : archs) {
    std::fputs(fmt::format("{:.6f}\n", model.cost(arch)).c_str(), stdout);
  }
  return Exit::ok;
}

}  // namespace

Verb cost_verb() {
  return {"cost", "what architectures cost, one number a line",
          join({space_option(),
                indices_option(),
                {.name = "indices-file", .unit = "FILE", .help = "one indices string a line"},
                name_option(),
                cost_option(),
                resolution_option()},
               {variant_options()}),
          run};
}

}  // namespace tunas::tools
