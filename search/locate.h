// Where a single network lies in a search space: the inverse of Space::only, up to widths that
// coincide. Gives reference networks and found ones their `indices` and their latency.
#pragma once

#include <optional>
#include <string>

#include "search/arch.h"

namespace tunas::search {

struct Location {
  std::optional<Arch> arch;
  std::string reason;  // why there is none: the block and layer that do not fit
};

/// Layers are matched in order, keeping the earliest positions that fit and skipping the later
/// ones, as in the published strings; choices below a skipped layer read 0. Markers are ignored.
/// Error if `network` leaves anything open.
Location locate(const Space& network, const Space& space);

}  // namespace tunas::search
