// What the log and metrics.jsonl say of a step that was not finite (search/not_finite.h).
#pragma once

#include <optional>

#include "engine/metrics.h"
#include "search/not_finite.h"

namespace tunas::tools {

/// The `line` of a step. Where that was not finite: null for what is no number, which JSON has no
/// word for, and "skipped", the layer where it began; and one warning in the log.
engine::Json marked(engine::Json line, const std::optional<search::NotFinite>& not_finite);

}  // namespace tunas::tools
