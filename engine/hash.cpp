#include "engine/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "engine/file.h"

namespace tunas::engine {

Hash::Hash() : state_(XXH64_createState()) { XXH64_reset(state_.get(), 0); }
void Hash::Free::operator()(XXH64_state_s* state) const { XXH64_freeState(state); }
void Hash::add(const void* data, std::size_t bytes) { XXH64_update(state_.get(), data, bytes); }
std::string Hash::digits() const { return fmt::format("{:016x}", XXH64_digest(state_.get())); }

FileSum sum_file(const std::string& path) {
  Hash hash;
  std::uint64_t bytes = 0;
  read_pieces(path, [&](std::string_view piece) {
    hash.add(piece.data(), piece.size());
    bytes += piece.size();
  });
  return {bytes, hash.digits()};
}

}  // namespace tunas::engine
