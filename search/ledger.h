// Ledger: the bytes that each layer of a training pass moves for an image, three ways: composed,
// every operation a pass of its own; fused, as this program's kernels declare it, weights shared
// by the batch included; and at the floor of full fusion (search/fusion_floor.h).
#pragma once

#include "kernels/types.h"
#include "search/fusion_floor.h"

namespace tunas::search {

struct LedgerRow {
  std::string layer;  // as in fusion_floor.h; also images and loss, which have no floor
  Moved composed, fused, floor;
};

/// From a dry pass of `arch` alone over `images` images, activations of `type`: nothing is
/// computed. In the order of the network.
std::vector<LedgerRow> ledger(const Space& space, const Arch& arch, DType type, int images);

LedgerRow total(const std::vector<LedgerRow>& rows);

}  // namespace tunas::search
