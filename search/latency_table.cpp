#include "search/latency_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/median.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace tunas::search {
namespace {

using engine::median;
using Json = nlohmann::ordered_json;

/// An option as the published tables write it, which CostTable holds against the space.
Json choice(const std::string& text) {
  if (text == "on" || text == "off") return text == "on";
  std::size_t end = 0;
  try {
    const double number = std::stod(text, &end);
    if (end == text.size()) return static_cast<int>(number);
    if (end + 1 == text.size() && text.back() == 'x') return {{"expansion", number}};
  } catch (const std::exception&) {  // words
  }
  return text;
}

Json decisions(const Space& space) {
  Json list = Json::array();
  for (const Decision& decision : space.decisions) {
    Json choices = Json::array();
    for (const std::string& option : decision.options) choices.push_back(choice(option));
    list.push_back({{"path", decision.path},
                    {"tag", decision.tag == Tag::filters ? "filters" : "operation"},
                    {"choices", choices}});
  }
  return list;
}

}  // namespace

int LatencyTable::options(int decision) const {
  if (decision == kFixed) return 1;
  return static_cast<int>(space_.decisions[static_cast<std::size_t>(decision)].options.size());
}

LatencyTable::LatencyTable(const Space& space) : space_(space) {
  int before = kFixed;  // filters of the block before
  const auto add = [&](const std::string& path, int skip, std::initializer_list<int> axes) {
    Entry entry;
    entry.skip = options(skip) > 1 ? skip : kFixed;
    std::size_t states = 1;
    for (const int decision : axes) {
      if (options(decision) < 2) continue;
      entry.axes.push_back(decision);
      states *= static_cast<std::size_t>(options(decision));
    }
    entry.seen.resize(states);
    paths_.push_back(path);
    entries_.push_back(std::move(entry));
  };
  for (std::size_t b = 0; b < space.blocks.size(); ++b) {
    const Block& block = space.blocks[b];
    for (std::size_t l = 0; l < block.layers.size(); ++l) {
      const Layer& layer = block.layers[l];
      add("blocks/" + std::to_string(b) + "/layers/" + std::to_string(l), layer.skip_decision,
          {block.filters_decision, l == 0 ? before : kFixed, layer.kernel_decision,
           layer.expansion_decision, layer.squeeze_excite_decision});
    }
    before = block.filters_decision;
  }
  add("classifier", kFixed, {before});
}

std::int64_t LatencyTable::states() const {
  std::size_t count = 0;
  for (const Entry& entry : entries_) count += entry.seen.size();
  return static_cast<std::int64_t>(count);
}

std::int64_t LatencyTable::unseen() const {
  std::int64_t count = 0;
  for (const Entry& entry : entries_) {
    count += std::count_if(entry.seen.begin(), entry.seen.end(),
                           [](const std::vector<double>& times) { return times.empty(); });
  }
  return count;
}

bool LatencyTable::skipped(const Entry& entry, const Arch& arch) const {
  return entry.skip != kFixed && arch.values[static_cast<std::size_t>(entry.skip)] == 1;
}

std::size_t LatencyTable::state(const Entry& entry, const Arch& arch) const {
  std::size_t index = 0;
  for (const int decision : entry.axes) {
    index = index * static_cast<std::size_t>(options(decision)) +
            static_cast<std::size_t>(arch.values[static_cast<std::size_t>(decision)]);
  }
  return index;
}

Arch LatencyTable::next(std::uint64_t seed, std::uint64_t draw) const {
  Arch arch{std::vector<std::int8_t>(space_.decisions.size(), 0)};
  std::vector<bool> fixed(space_.decisions.size());
  std::uint64_t number = draw * entries_.size();
  for (const Entry& entry : entries_) {
    const Random4 random = philox({seed, Purpose::sample_space, 0, 0}, number++);
    // The least seen states that agree with what the layers before have fixed.
    std::vector<std::size_t> least;
    for (std::size_t s = 0; s < entry.seen.size(); ++s) {
      std::size_t rest = s;
      bool agrees = true;
      for (auto axis = entry.axes.rbegin(); axis != entry.axes.rend(); ++axis) {
        const auto d = static_cast<std::size_t>(*axis);
        const auto size = static_cast<std::size_t>(options(*axis));
        agrees = agrees && (!fixed[d] || rest % size == static_cast<std::size_t>(arch.values[d]));
        rest /= size;
      }
      if (!agrees) continue;
      if (!least.empty() && entry.seen[s].size() > entry.seen[least[0]].size()) continue;
      if (!least.empty() && entry.seen[s].size() < entry.seen[least[0]].size()) least.clear();
      least.push_back(s);
    }
    std::size_t chosen =
        least[static_cast<std::size_t>(std::uint64_t{random.v[0]} * least.size() >> 32)];
    const bool fresh = entry.seen[chosen].empty();
    for (auto axis = entry.axes.rbegin(); axis != entry.axes.rend(); ++axis) {
      const auto d = static_cast<std::size_t>(*axis);
      const auto size = static_cast<std::size_t>(options(*axis));
      arch.values[d] = static_cast<std::int8_t>(chosen % size);
      fixed[d] = true;
      chosen /= size;
    }
    if (entry.skip != kFixed) {
      arch.values[static_cast<std::size_t>(entry.skip)] = !fresh && (random.v[1] & 1) != 0;
    }
  }
  return arch;
}

void LatencyTable::add(const Arch& arch, const std::vector<double>& layers, double whole) {
  require(layers.size() == entries_.size(), "times of ", layers.size(), " layers, the table has ",
          entries_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!skipped(entry, arch)) entry.seen[state(entry, arch)].push_back(layers[i]);
  }
  networks_.push_back({arch, whole});
}

double LatencyTable::sum(const Arch& arch) const {
  double total = 0;
  for (const Entry& entry : entries_) {
    if (!skipped(entry, arch)) total += entry.times[state(entry, arch)];
  }
  return total;
}

void LatencyTable::fit(double unit) {
  require(unseen() == 0, unseen(), " of ", states(), " states of layers have not been measured");
  for (Entry& entry : entries_) {
    entry.times.clear();
    for (const std::vector<double>& times : entry.seen) {
      entry.times.push_back(unit * median(times));
    }
  }
  std::vector<std::pair<double, double>> points;  // sum of the layers, whole
  for (const Network& network : networks_) {
    points.emplace_back(sum(network.arch), unit * network.whole);
  }
  std::sort(points.begin(), points.end());
  std::vector<double> slopes, rests;
  for (std::size_t i = 0, half = (points.size() + 1) / 2; i + half < points.size(); ++i) {
    const auto& [x0, y0] = points[i];
    const auto& [x1, y1] = points[i + half];
    if (x1 > x0) slopes.push_back((y1 - y0) / (x1 - x0));
  }
  scale_ = slopes.empty() ? 1 : median(slopes);  // a space of one network has no slope
  for (const auto& [x, y] : points) rests.push_back(y - scale_ * x);
  bias_ = median(rests);
}

double LatencyTable::cost(const Arch& arch) const { return bias_ + scale_ * sum(arch); }

Json LatencyTable::table(const Entry& entry, std::size_t axis, std::size_t offset) const {
  if (axis == entry.axes.size()) return scale_ * entry.times[offset];
  Json list = Json::array();
  const auto size = static_cast<std::size_t>(options(entry.axes[axis]));
  for (std::size_t i = 0; i < size; ++i) list.push_back(table(entry, axis + 1, offset * size + i));
  return list;
}

std::string LatencyTable::json(int resolution, const Json& facts) const {
  Json document = {{"search_space", space_.name}, {"resolution", resolution}};
  document.update(facts);
  document["bias"] = bias_;
  document["decisions"] = decisions(space_);
  document["layers"] = Json::array();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    Json layer = {{"layer", paths_[i]}, {"index_order", entry.axes}, {"table", table(entry, 0, 0)}};
    if (entry.skip != kFixed) {
      layer["skip_decision"] = entry.skip;
      layer["skip_index_order"] = Json::array();
      layer["skip_table"] = 0;
    }
    document["layers"].push_back(layer);
  }
  return document.dump() + "\n";
}

}  // namespace tunas::search
