// Making a latency table: what each layer of a space takes in each of its states, from networks
// that were run whole, so that a layer is measured among its neighbours.
//
// A state of a layer is what its time depends on (specification section 14): the filters of its
// block, for the first layer of a block those of the block before, its kernel size, expansion and
// squeeze-and-excite. The classifier depends on the last filters. Skipped layers cost nothing.
//
//   for (draw = 0; table.unseen() > 0; ++draw) {
//     arch = table.next(seed, draw);         // a network that runs states not seen yet
//     table.add(arch, layers, whole);        // what it took
//   }
//   table.fit();                             // whole = bias + scale*sum of its layers
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "search/arch.h"

namespace tunas::search {

class LatencyTable {
 public:
  /// `space` must outlive the table.
  explicit LatencyTable(const Space& space);

  /// Paths of the layers as the supernet names them (blocks/2/layers/0, classifier), in the order
  /// of add()'s times.
  const std::vector<std::string>& layers() const { return paths_; }
  /// States of layers in all, and those that no network ran yet.
  std::int64_t states() const;
  std::int64_t unseen() const;

  /// A function of (seed, draw) and of what was seen: uniform among the states of each layer that
  /// were seen least, from the first layer to the last. What may be skipped is kept while it has
  /// unseen states, else half of the time.
  Arch next(std::uint64_t seed, std::uint64_t draw) const;
  /// Times of one network, in any unit: of its layers (0 where skipped) and as a whole.
  void add(const Arch& arch, const std::vector<double>& layers, double whole);

  /// A line through all networks added that a few disturbed ones do not move: its slope is the
  /// median of those between networks half of all apart (after Theil and Sen), its bias the median
  /// of the rest. Every state must have been seen; its time is the median of its own. `unit` is
  /// that of the times, in the table's.
  void fit(double unit = 1);
  double bias() const { return bias_; }
  double scale() const { return scale_; }
  double cost(const Arch& arch) const;

  /// What CostTable::parse reads, for images of `resolution`; of `facts` it has unit, device,
  /// source and evaluation.
  std::string json(int resolution, const nlohmann::ordered_json& facts) const;

 private:
  struct Entry {
    std::vector<int> axes;  // decisions, slowest first
    int skip = kFixed;
    std::vector<std::vector<double>> seen;  // times of each state
    std::vector<double> times;              // medians
  };
  struct Network {
    Arch arch;
    double whole;
  };

  int options(int decision) const;
  std::size_t state(const Entry& entry, const Arch& arch) const;
  bool skipped(const Entry& entry, const Arch& arch) const;
  double sum(const Arch& arch) const;
  nlohmann::ordered_json table(const Entry& entry, std::size_t axis, std::size_t offset) const;

  const Space& space_;
  std::vector<std::string> paths_;
  std::vector<Entry> entries_;
  std::vector<Network> networks_;
  double bias_ = 0, scale_ = 1;
};

}  // namespace tunas::search
