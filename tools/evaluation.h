// Scoring a trained network on every image of a set.
#pragma once

#include "search/trainer.h"
#include "tools/data_sets.h"

namespace tunas::tools {

/// drop: the last, incomplete batch is left out, as in the published evaluation.
enum class LastBatch : unsigned char { keep, drop };

struct Evaluation {
  int batch = 256;
  int workers = 1;
  LastBatch last = LastBatch::keep;
};

/// Ends early, with what was scored so far, when interrupted().
search::Outcome evaluate(search::Trainer& trainer, const ImageSet& images,
                         const Evaluation& options);

/// {"top1", "top5" (fractions), "loss", "count"}
nlohmann::ordered_json scores(const search::Outcome& outcome);
/// The same for people, one a line.
std::string scores_text(const search::Outcome& outcome);

}  // namespace tunas::tools
