// Arch: one small integer per decision; and Plan: what an Arch makes of a Space, layer by layer,
// with every width and resolution resolved. The supernet runs a Plan, the counts sum over it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/width.h"
#include "search/space.h"

namespace tunas::search {

/// Value of an operation decision in warm-up: all options run, averaged with weight 1/n.
inline constexpr std::int8_t kAll = -1;

struct Arch {
  std::vector<std::int8_t> values;

  /// "2:1:0:..."; kAll is written "all" (search logs only).
  std::string indices() const;
  /// Reads published `indices`. Error naming both lengths, or the position, its value, what is
  /// allowed there and its path. "all" is refused: it stands for no single network.
  static Arch parse(std::string_view indices, const Space& space);
  /// All operations (kAll where there are two or more), largest filters: the largest state of the
  /// space.
  static Arch largest(const Space& space);

  friend bool operator==(const Arch&, const Arch&) = default;
};

/// Error unless `arch` has a value for every decision of `space`, each one of its options; kAll
/// only where the decision is an operation.
void check(const Space& space, const Arch& arch);

/// Mask weight of option `i` of a decision (1/n under kAll); a fixed choice weighs 1 at option 0.
double mask(const Space& space, const Arch& arch, int decision, int option);

/// One kernel-size option of a layer that runs.
struct KernelChoice {
  int option;  // index into Layer::kernels
  int k;
  double weight;  // mask weight
};

/// One layer of the resolved network. Widths carry the stored (max) and active (now) channels.
struct PlanLayer {
  int block = 0, layer = 0;
  const Layer* spec = nullptr;  // into the Space, which must outlive the Plan
  int in_resolution = 0, out_resolution = 0;
  Width c_in, c_exp, c_hidden, c_out;  // c_exp: bottleneck; c_hidden: squeeze-excite
  std::vector<KernelChoice> kernels;   // those with non-zero weight
  double squeeze_excite = 0;           // mask weight of "on"; 1 - it is the weight of "off"
  double keep = 1;                     // mask weight of "keep"; 0: the layer is skipped, yet listed
};

struct Plan {
  std::vector<PlanLayer> layers;  // activation, pool and endpoint layers included
  int classes = 0;
  Width c_head;  // input of the classifier
};

/// Resolves widths, kernel sizes and resolutions of `arch` for square images of `resolution`.
/// The expansion width follows the active input width (specification sections 2 and 7.2).
/// Error as `check`.
Plan resolve(const Space& space, const Arch& arch, int resolution);

/// Parameters (kernels, biases, norm scale and shift) and multiply-adds of a Plan, counted as in
/// specification section 5; under kAll every option counts with the product of its mask weights.
struct Counts {
  double kernels = 0, biases = 0, norms = 0;
  double macs = 0;
  double params() const { return kernels + biases + norms; }
};
Counts count(const Plan& plan);
/// The share of one layer (the classifier is in `count` alone).
Counts count(const PlanLayer& layer);

}  // namespace tunas::search
