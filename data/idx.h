// idx: the format of MNIST and Fashion-MNIST. Big-endian: 0x0000TTDD (type 8 = unsigned byte, DD
// dimensions), one 32-bit size per dimension, then the bytes, row-major. Plain or gzipped.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/records.h"

namespace tunas::data {

struct Idx {
  std::vector<int> shape;
  std::span<const std::uint8_t> values;  // inside the bytes that were parsed
};

/// Throws Error(data) naming `path` unless `bytes` are exactly one idx array of unsigned bytes with
/// `dimensions` dimensions.
Idx parse_idx(std::span<const std::uint8_t> bytes, int dimensions, const std::string& path);

/// The train or t10k files in `folder`, at 28x28 grey pixels (any size is accepted). All in memory.
/// Throws Error(data) for missing, truncated or contradicting files.
Records open_fashion_mnist(const std::string& folder, Split split);

}  // namespace tunas::data
