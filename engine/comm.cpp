#include "engine/comm.h"

#include <cstring>

namespace tunas::engine {

void Solo::all_gather(const void* mine, void* all, std::size_t bytes) {
  std::memcpy(all, mine, bytes);
}

Comm& solo() {
  static Solo alone;
  return alone;
}

std::string name_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace tunas::engine
