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

}  // namespace tunas::engine
