// tunas space list | show | count | sample.
#include <fmt/format.h>

#include <cstdio>

#include <optional>

#include "search/random_search.h"
#include "tools/interrupt.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

Option space_word() {
  Option option = space_option();
  option.role = Role::positional;
  return option;
}

Exit list(const Config& config) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  std::string text;
  for (const std::string& name : search::Space::names()) {
    const search::Space space = search::Space::named(name);
    const bool searchable = search::Space::is_search_space(name);
    const std::string kind = searchable ? "space" : "network";
    all.push_back({{"name", name}, {"kind", kind}, {"decisions", space.decisions.size()}});
    text += fmt::format(
        "{:<30}{}\n", name,
        searchable ? fmt::format("space of {} decisions", space.decisions.size()) : "network");
  }
  std::fputs((config.flag("json") ? all.dump(2) + "\n" : text).c_str(), stdout);
  return Exit::ok;
}

Exit show(const Config& config) {
  const search::Space space = variant(open_space(config.text("space")), config);
  if (config.flag("json")) {
    std::fputs((space.json() + "\n").c_str(), stdout);
    return Exit::ok;
  }
  std::string text =
      fmt::format("{}: {} pixels, {} classes, {} blocks, {} decisions\n\n", space.name,
                  space.resolution, space.classes, space.blocks.size(), space.decisions.size());
  for (std::size_t i = 0; i < space.decisions.size(); ++i) {
    const search::Decision& decision = space.decisions[i];
    text += fmt::format("{:>3}  {:<60}", i, decision.path);
    for (const std::string& option : decision.options) text += " " + option;
    text += "\n";
  }
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

Exit count(const Config& config) {
  const search::Space space = variant(open_space(config.text("space")), config);
  const std::string text =
      config.flag("json") ? nlohmann::ordered_json({{"indices", space.count()},
                                                    {"architectures", space.count_distinct()}})
                                    .dump(2) +
                                "\n"
                          : fmt::format(
                                "{} different indices\n"
                                "{} architectures, choices under a skipped layer not counted\n",
                                space.count(), space.count_distinct());
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

Exit sample(const Config& config) {
  const search::Space space = variant(open_space(config.text("space")), config);
  search::RandomSearch options;
  options.seed = static_cast<std::uint64_t>(config.integer("seed"));
  options.count = static_cast<int>(config.integer("count"));
  std::optional<search::CostModel> cost;
  if (config.has("min-cost") || config.has("max-cost")) {
    cost = search::CostModel::make(config.text("cost"), space, resolution(config, space));
    if (config.has("min-cost")) options.min_cost = config.number("min-cost");
    if (config.has("max-cost")) options.max_cost = config.number("max-cost");
  }
  catch_interrupt();
  options.progress = [](std::uint32_t, int) { return !interrupted(); };
  for (const search::Arch& arch : search::random_search(space, cost ? &*cost : nullptr, options)) {
    std::fputs((arch.indices() + "\n").c_str(), stdout);
  }
  return interrupted() ? Exit::interrupted : Exit::ok;
}

}  // namespace

Verb space_list_verb() {
  return {
      "space list", "the spaces and networks that come with the program", {json_option()}, list};
}

Verb space_show_verb() {
  return {"space show", "the decisions of a space; --json prints what --space FILE.json reads",
          join({space_word(), json_option()}, {variant_options()}), show};
}

Verb space_count_verb() {
  return {"space count", "how many architectures a space holds",
          join({space_word(), json_option()}, {variant_options()}), count};
}

Verb space_sample_verb() {
  return {"space sample", "random architectures, one indices string a line",
          join({space_word(),
                {.name = "count",
                 .type = Type::integer,
                 .fallback = "1",
                 .help = "how many",
                 .least = 1,
                 .letter = 'n'},
                seed_option(),
                {.name = "min-cost", .type = Type::number, .help = "least cost accepted"},
                {.name = "max-cost", .type = Type::number, .help = "largest cost accepted"},
                cost_option(),
                resolution_option()},
               {variant_options()}),
          sample};
}

}  // namespace tunas::tools
