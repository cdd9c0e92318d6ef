// What an architecture costs: simulated milliseconds on a phone, from a table; or multiply-adds; or
// parameters. Warm-up states (kAll) cost the mask-weighted mean of their options.
#pragma once

#include <optional>
#include <string>

#include "search/arch.h"
#include "search/cost_table.h"

namespace tunas::search {

class CostModel {
 public:
  /// `kind` is pixel1, macs, params or the file of a table. Errors as below.
  static CostModel make(const std::string& kind, const Space& space, int resolution);

  /// The published table of `space`, or of the published space that contains a single network.
  /// Error with the reason and the way out where there is none, or for another resolution.
  static CostModel pixel1(const Space& space, int resolution);
  /// A table made for `space` at `resolution`. Error where it was made for another.
  static CostModel table(const std::string& file, const Space& space, int resolution);
  static CostModel macs(const Space& space, int resolution);
  static CostModel params(const Space& space, int resolution);

  /// `arch` belongs to the space given above; Error where it does not fit.
  double cost(const Arch& arch) const;

  /// "ms", "multiply-adds", "parameters", or what a user's table says.
  const std::string& unit() const { return unit_; }
  /// 84 or 57 ms for the published tables; 0: the user must name one.
  double default_target() const { return default_target_; }

 private:
  enum class Count { none, macs, params };

  CostModel(const Space& space, int resolution) : space_(space), resolution_(resolution) {}

  Space space_;
  int resolution_;
  Count count_ = Count::none;
  std::optional<CostTable> table_;
  std::optional<Arch> located_;  // a single network's place in the space of the table
  std::string unit_;
  double default_target_ = 0;
};

}  // namespace tunas::search
