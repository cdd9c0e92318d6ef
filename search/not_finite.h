// Steps whose numbers stop being finite: where it began, and how many follow each other. Such a
// step is skipped as a whole (kernels/update.h); what it would have changed stays bit for bit.
//
//   forward   a normalisation or the loss of a shard's training pass: the first layer in the order
//             of the network. Convolutions without one show in the next, the classifier in the loss
//   backward  the summed gradient alone: its last layer, where backward came to first
//   held_out  a pass that scores an architecture: the weights were updated, the controller was not
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/param.h"
#include "kernels/update.h"
#include "search/results.h"

namespace tunas::search {

struct NotFinite {
  enum class Where : unsigned char { forward, backward, held_out } where = Where::forward;
  std::int64_t step = 0;
  int shard = 0;      // backward: any, the gradient is the sum over shards
  std::string layer;  // as its parameters begin: blocks/2/layers/0/expand

  /// What happened and what was not done, for a log.
  std::string text() const;
};

/// What came of one step: the outcomes of all shards that trained and that were scored, and the
/// verdict on the summed gradient.
struct StepOutcomes {
  std::int64_t step = 0;
  std::span<const Outcome> trained, scored;
  kernels::Verdict verdict;
};
/// Where that step stopped being finite; none: it did not.
std::optional<NotFinite> find_not_finite(const engine::ParamStore& params,
                                         const StepOutcomes& step);

/// The layer of the parameter at `offset` of the flat store.
std::string layer_at(const engine::ParamStore& params, std::size_t offset);

/// Counts steps that were not finite.
class NotFiniteStreak {
 public:
  static constexpr int kMost = 20;

  /// After a step. Error(Exit::numeric) at the kMost-th in a row.
  void add(const std::optional<NotFinite>& step);
  int length() const { return length_; }
  /// Of a run that goes on.
  void restore(int length) { length_ = length; }

 private:
  int length_ = 0;
};

}  // namespace tunas::search
