// Scoring a trained network on every image of a set.
#pragma once

#include <functional>
#include <span>

#include "search/trainer.h"
#include "tools/data_sets.h"

namespace tunas::tools {

/// drop: the last, incomplete batch is left out, as in the published evaluation.
enum class LastBatch : unsigned char { keep, drop };

struct Evaluation {
  int batch = 256;
  int workers = 1;
  LastBatch last = LastBatch::keep;
  data::OnBad on_bad = data::OnBad::skip;
  Preprocess preprocess;
  /// Hears of every image that this rank scored, in their order; the trainer must keep logits. May
  /// be empty.
  std::function<void(std::int64_t sample, std::int32_t label, std::span<const float> logits)> each;
};

struct Scores {
  search::Outcome outcome;
  std::int64_t skipped = 0;  // images that could not be decoded, left out or replaced
  bool whole = true;         // false: asked to stop, not all images were scored

  /// {"top1", "top5" (fractions), "loss", "count", "skipped"}
  nlohmann::ordered_json json() const;
  /// The same for people, one a line.
  std::string text() const;
};

/// The ranks of `comm` share out the batches; all get the scores of all, which are the same for any
/// number of ranks. A rank that is interrupted() ends early, and then none has whole scores.
Scores evaluate(search::Trainer& trainer, const ImageSet& images, const Evaluation& options,
                const engine::Device& device, engine::Comm& comm = engine::solo());

}  // namespace tunas::tools
