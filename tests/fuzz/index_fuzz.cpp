// data::parse_index: the stored index of an archive. What is accepted is written back byte for
// byte.
#include <algorithm>
#include <cstring>
#include <vector>

#include "data/index.h"
#include "engine/crc32c.h"
#include "tests/fuzz/fuzz.h"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (size >= 4 && seed % 8 != 0) {
    const std::uint32_t sum = tunas::engine::crc32c({data, size - 4});
    std::memcpy(data + size - 4, &sum, sizeof sum);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  const std::vector<std::uint8_t> bytes(data, data + size);
  fuzz::accepts([&] {
    const data::StoredIndex stored = data::parse_index(bytes, "fuzz.index");
    for (std::size_t i = 0; i < stored.index.size(); ++i) {
      const std::uint64_t offset = stored.index.offsets[i], length = stored.index.sizes[i];
      fuzz::expect(offset <= stored.of.size && length <= stored.of.size - offset,
                   "a sample inside the archive");
      fuzz::expect(stored.index.keys[i].size() <= size, "a key inside the index");
    }
    fuzz::expect(data::index_bytes(stored) == bytes, "the same bytes again");
  });
  return 0;
}
