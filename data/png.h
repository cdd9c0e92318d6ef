// The PNG half of decode.h, over libpng.
//
// Rows are read until the region's last one. libpng checks the sum of a chunk when it has read all
// of it; that of the chunk in which reading stops is checked here, so that no damage above the
// region's end passes (where the file ends within that chunk, what was unpacked is taken).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "data/region.h"

namespace tunas::data {

class Png {
 public:
  Png();
  ~Png();

  /// See Decoder: the same promises, for bytes that begin as a PNG does.
  Size open(std::span<const std::uint8_t> bytes);
  void read(const Region& region, std::uint8_t* rgb);
  std::int64_t stopped_at() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tunas::data
