// Architectures as `indices` strings, and their resolution into a Plan.
#include "search/arch.h"

#include <algorithm>
#include <charconv>

#include "kernels/error.h"

namespace tunas::search {
namespace {

std::size_t options_of(const Space& space, std::size_t decision) {
  return space.decisions[decision].options.size();
}

/// Parses one number of an indices string; -1 where the text is none.
int number(std::string_view text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

/// The option a filters decision takes; filters are never averaged.
std::size_t width_option(const Arch& arch, int decision) {
  return decision == kFixed ? 0 : static_cast<std::size_t>(arch.values[decision]);
}

std::vector<KernelChoice> kernel_choices(const Space& space, const Arch& arch, const Layer& layer) {
  std::vector<KernelChoice> choices;
  for (int i = 0; i < static_cast<int>(layer.kernels.size()); ++i) {
    const double weight = mask(space, arch, layer.kernel_decision, i);
    if (weight > 0) choices.push_back({i, layer.kernels[i], weight});
  }
  return choices;
}

void resolve_bottleneck(const Space& space, const Arch& arch, PlanLayer& p) {
  const Layer& layer = *p.spec;
  const double factor = layer.expansions[width_option(arch, layer.expansion_decision)];
  p.c_exp = {round_filters(p.c_in.max, layer.expansions.back(), space.divisor),
             round_filters(p.c_in.now, factor, space.divisor)};
  if (layer.squeeze_excite.back() == 0) return;
  const int on = static_cast<int>(layer.squeeze_excite.size()) - 1;
  p.c_hidden = {make_divisible(0.25 * p.c_exp.max, space.divisor),
                make_divisible(0.25 * p.c_exp.now, space.divisor)};
  p.squeeze_excite = mask(space, arch, layer.squeeze_excite_decision, on);
}

}  // namespace

std::string Arch::indices() const {
  std::string text;
  for (const std::int8_t value : values) {
    if (!text.empty()) text += ':';
    text += value == kAll ? "all" : std::to_string(value);
  }
  return text;
}

Arch Arch::parse(std::string_view indices, const Space& space) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= indices.size();) {
    const std::size_t end = std::min(indices.find(':', begin), indices.size());
    parts.push_back(indices.substr(begin, end - begin));
    begin = end + 1;
  }
  require(parts.size() == space.decisions.size(), "indices have ", parts.size(), " values, but ",
          space.name, " has ", space.decisions.size(),
          " decisions; give one number per decision, separated by colons");
  Arch arch;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int value = number(parts[i]);
    const int last = static_cast<int>(options_of(space, i)) - 1;
    require(value >= 0 && value <= last, "indices, position ", i, ": '", parts[i],
            "' is not a number from 0 to ", last, " (", space.decisions[i].path, " of ", space.name,
            ")");
    arch.values.push_back(static_cast<std::int8_t>(value));
  }
  return arch;
}

Arch Arch::largest(const Space& space) {
  Arch arch;
  for (const Decision& d : space.decisions) {
    const bool average = d.tag == Tag::operation && d.options.size() > 1;
    const int last = static_cast<int>(d.options.size()) - 1;
    const int widest = d.tag == Tag::filters ? last : 0;
    arch.values.push_back(average ? kAll : static_cast<std::int8_t>(widest));
  }
  return arch;
}

void check(const Space& space, const Arch& arch) {
  require(arch.values.size() == space.decisions.size(), "an architecture of ", arch.values.size(),
          " values does not fit ", space.name, ", which has ", space.decisions.size(),
          " decisions");
  for (std::size_t i = 0; i < arch.values.size(); ++i) {
    const int value = arch.values[i];
    const bool average = value == kAll && space.decisions[i].tag == Tag::operation;
    require(average || (value >= 0 && value < static_cast<int>(options_of(space, i))),
            "architecture, position ", i, ": ", value, " is no option of ", space.decisions[i].path,
            " of ", space.name, ", which has ", options_of(space, i));
  }
}

double mask(const Space& space, const Arch& arch, int decision, int option) {
  if (decision == kFixed) return option == 0 ? 1 : 0;
  const auto d = static_cast<std::size_t>(decision);
  if (arch.values[d] == kAll) return 1.0 / static_cast<double>(options_of(space, d));
  return arch.values[d] == option ? 1 : 0;
}

Plan resolve(const Space& space, const Arch& arch, int resolution) {
  check(space, arch);
  Plan plan;
  plan.classes = space.classes;
  Width c{3, 3};
  int pixels = resolution;
  for (std::size_t b = 0; b < space.blocks.size(); ++b) {
    const Block& block = space.blocks[b];
    const Width filters{block.filters.back(),
                        block.filters[width_option(arch, block.filters_decision)]};
    for (std::size_t l = 0; l < block.layers.size(); ++l) {
      PlanLayer p;
      p.block = static_cast<int>(b);
      p.layer = static_cast<int>(l);
      p.spec = &block.layers[l];
      p.c_in = c;
      p.in_resolution = pixels;
      pixels = p.spec->kind == LayerKind::global_pool
                   ? 1
                   : pad_axis(Padding::same, pixels, 1, p.spec->stride).out;
      p.out_resolution = pixels;
      if (p.spec->kind == LayerKind::conv || p.spec->kind == LayerKind::separable ||
          p.spec->kind == LayerKind::bottleneck) {
        c = filters;
        p.kernels = kernel_choices(space, arch, *p.spec);
      }
      p.c_out = c;
      if (p.spec->kind == LayerKind::bottleneck) resolve_bottleneck(space, arch, p);
      if (p.spec->skippable) p.keep = mask(space, arch, p.spec->skip_decision, 0);
      plan.layers.push_back(std::move(p));
    }
  }
  plan.c_head = c;
  return plan;
}

}  // namespace tunas::search
