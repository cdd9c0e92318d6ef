// Width: the one idea of the engine. A filter is stored at `max` channels and used up to `now`.
#pragma once

namespace tunas {

struct Width {
  int max = 0;
  int now = 0;

  friend bool operator==(const Width&, const Width&) = default;
};

/// Rows of logits and other odd widths are stored rounded up to 8 channels.
constexpr int round_up_8(int c) { return (c + 7) / 8 * 8; }

}  // namespace tunas
