// The JPEG half of decode.h, over libjpeg-turbo.
//
// What a region needs beyond itself: smooth upsampling of chroma looks one chroma sample to each
// side, and a scan can only be entered at a whole block. Rows: the library skips to any row and
// keeps the rows of context itself. Columns: it decodes from the block on in which the first column
// lies, and treats the ends of what it decodes as ends of the image; two chroma samples more on
// each side are therefore decoded, and dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "data/region.h"

namespace tunas::data {

class Jpeg {
 public:
  Jpeg();
  ~Jpeg();

  /// See Decoder: the same promises, for bytes that begin as a JPEG does.
  Size open(std::span<const std::uint8_t> bytes);
  void read(const Region& region, int reduction, std::uint8_t* rgb);
  std::int64_t stopped_at() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tunas::data
