// Batch: what the data pipeline hands to a step. Decoded crops as bytes; resizing, flipping,
// normalising and padding are the image kernel's work, on whichever device the step runs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/image.h"

namespace tunas {

/// Who can read a batch's pixels: the host alone, the host and a GPU by itself, a GPU alone.
enum class Reach : unsigned char { host, both, gpu };

struct Batch {
  const std::uint8_t* pixels = nullptr;  // owned by the loader until its next call
  Reach reach = Reach::host;
  std::vector<Crop> crops;
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> samples;  // global sample indices, in order

  int size() const { return static_cast<int>(crops.size()); }
};

}  // namespace tunas
