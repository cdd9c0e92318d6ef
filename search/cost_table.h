// A latency table: cost = bias + sum over layers of one look-up. Axes of a look-up are decisions;
// a skippable layer has a second, smaller table for "skip". Under kAll the look-up is the mean over
// that axis, so a skippable layer costs mask_keep*kept + mask_skip*skipped (specification, 14).
#pragma once

#include <string>
#include <vector>

#include "search/arch.h"

namespace tunas::search {

class CostTable {
 public:
  /// From JSON (format: search/README.md, as in search/latency/); `where` names it in errors. Error
  /// where it is malformed or where its decisions (paths, tags, options) are not those of `space`.
  static CostTable parse(const std::string& json, const std::string& where, const Space& space);

  double cost(const Arch& arch) const;
  int resolution() const { return resolution_; }
  const std::string& unit() const { return unit_; }

 private:
  struct Axis {
    int decision;
    int size;
    int stride;  // in values
  };
  struct Lookup {
    std::vector<Axis> axes;
    std::vector<double> values;

    double at(const Arch& arch, std::size_t axis = 0, int offset = 0) const;
  };
  struct Layer {
    Lookup kept;
    Lookup skipped;
    int skip_decision = kFixed;
  };
  friend struct CostTableReader;

  std::string unit_;
  int resolution_ = 224;
  double bias_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace tunas::search
