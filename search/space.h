// A search space is data: blocks of layers, each with the choices it leaves open. The published
// spaces and the reference networks are JSON files under search/spaces/; a network trained alone
// is a space with one point (Space::only).
//
// Decisions are numbered as the published `indices` strings have it (specification section 4):
// blocks in order, layers in order, inside a layer children before parents (kernel, expansion,
// squeeze-excite, keep/skip), the block's output filters last. Output filters always are a
// decision, be it of one option; the others only where there is a choice, or where a layer is
// `wrapped`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"

namespace tunas::search {

struct Arch;

/// Warm-up widens `filters` decisions to their largest option and averages `operation` ones.
enum class Tag : unsigned char { operation, filters };

struct Decision {
  std::string path;  // blocks/2/layers/1/layer/choices/0/kernel_size: the published style
  Tag tag = Tag::operation;
  std::vector<std::string> options;  // what each option is, for people: "5", "6x", "skip"

  friend bool operator==(const Decision&, const Decision&) = default;
};

enum class LayerKind : unsigned char {
  conv,        // k x k convolution (k = 1: pointwise), then batch norm or bias
  separable,   // depthwise, norm, act, pointwise, norm
  bottleneck,  // pointwise, norm, act, depthwise, norm, act, [squeeze-excite], pointwise, norm
  activation,
  global_pool,
  endpoint  // marker for detection heads: computes nothing, has a row in the cost tables
};

/// The number of a layer's decision, or kFixed where the layer leaves nothing open and consumes no
/// position in `indices`.
inline constexpr int kFixed = -1;

struct Layer {
  LayerKind kind = LayerKind::conv;
  int stride = 1;
  std::vector<int> kernels = {1};   // options, ascending
  std::vector<double> expansions;   // bottleneck: multiples of the active input width
  std::vector<int> squeeze_excite;  // bottleneck: {0}, {1} or {0, 1}
  Act act = Act::relu;              // bottleneck, separable: inner; activation: itself
  Act gate = Act::sigmoid;          // of squeeze-excite
  bool batch_norm = true;           // conv: otherwise a bias
  bool shared_pointwise = true;     // separable: false = one complete layer per kernel size
  bool residual = false;            // output = inner(x) + x
  bool skippable = false;           // {0: the layer, 1: zero}; needs residual
  bool wrapped = false;             // a one-option decision although not skippable
  int kernel_decision = kFixed;
  int expansion_decision = kFixed;
  int squeeze_excite_decision = kFixed;
  int skip_decision = kFixed;  // also the one-option wrapper

  friend bool operator==(const Layer&, const Layer&) = default;
};

struct Block {
  std::vector<Layer> layers;
  std::vector<int> filters;  // options, ascending
  int filters_decision = kFixed;

  friend bool operator==(const Block&, const Block&) = default;
};

struct Space {
  std::string name;
  int resolution = 224;
  int classes = 1001;
  int divisor = 8;            // of round_filters for expansions
  double default_target = 0;  // ms; 0 where no latency table exists
  double weight_decay = 4e-5;
  double dropout = 0.15;  // before the classifier, in trainings of 150 epochs and more
  Padding padding = Padding::same;
  double bn_epsilon = 1e-3;
  std::vector<Block> blocks;
  std::vector<Decision> decisions;  // filled by number_decisions

  /// A published space or reference network by name; unknown: Error naming the nearest one.
  static Space named(std::string_view name);
  /// Names that `named` knows, spaces first.
  static std::vector<std::string> names();
  /// Whether `name` is one of the three published search spaces.
  static bool is_search_space(std::string_view name);
  /// From JSON text; `where` names the source in errors.
  static Space parse(const std::string& json, const std::string& where);
  static Space load(const std::string& file);
  /// JSON that `parse` reads back to the same space.
  std::string json() const;

  /// The space whose only point is `arch`: every list of options has one entry, widths are the
  /// active ones, skipped layers are gone. The only decisions left are the one-option filters.
  /// Error where `arch` does not fit or runs all options of a decision.
  Space only(const Arch& arch) const;

  /// Multiplies all filters by `multiplier` with round_filters (--width). Options that become equal
  /// are merged. The name says so, as with small_images.
  Space scaled(double multiplier) const;
  /// Stem and first later reduction at stride 1, for images of 32 to 64 pixels (--small-images).
  Space small_images() const;

  /// Number of distinct `indices` strings, and of architectures when choices under a skipped layer
  /// are not counted. Exact decimal digits.
  std::string count() const;
  std::string count_distinct() const;

  /// Assigns the decision numbers and paths; called by every constructor above.
  void number_decisions();

  friend bool operator==(const Space&, const Space&) = default;
};

/// max(d, d*floor(f*m/d + 0.5)): halves go up (specification section 2). In float32, as the
/// published supernet evaluates it, so that stored and active widths are the same function.
int round_filters(double filters, double multiplier, int divisor = 8);
/// Hidden width of squeeze-and-excite: nearest multiple of d, never below 0.9 x.
int make_divisible(double x, int divisor = 8);
/// Sorted distinct round_filters of {0.5, 0.625, 0.75, 1, 1.25, 1.5, 2} times `base`.
std::vector<int> filter_choices(int base);

}  // namespace tunas::search
