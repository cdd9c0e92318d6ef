// Sizes and rectangles of images, in pixels.
#pragma once

namespace tunas::data {

struct Size {
  int h = 0, w = 0;
  bool operator==(const Size&) const = default;
};

/// Rows [y, y+h) and columns [x, x+w).
struct Region {
  int y = 0, x = 0, h = 0, w = 0;
  bool operator==(const Region&) const = default;
};

}  // namespace tunas::data
