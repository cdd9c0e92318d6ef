// data::parse_pack and, through a file, every record of what data::open_pack accepts.
#include <cstring>
#include <vector>

#include "data/pack.h"
#include "engine/crc32c.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tunas;

constexpr std::size_t kTail = 64, kEndAt = 8, kTablesSumAt = 40;

/// Makes the checksums of the tables and of the last bytes right.
void mend_sums(std::uint8_t* pack, std::size_t size) {
  if (size < kTail) return;
  std::uint8_t* tail = pack + size - kTail;
  std::uint64_t end = 0;
  std::memcpy(&end, tail + kEndAt, sizeof end);
  const std::uint64_t tables = (end + 7) / 8 * 8, inner = size - kTail;
  const auto put = [](std::uint8_t* to, fuzz::Bytes of) {
    const std::uint32_t sum = engine::crc32c(of);
    std::memcpy(to, &sum, sizeof sum);
  };
  if (end <= inner && tables <= inner) put(tail + kTablesSumAt, {pack + tables, inner - tables});
  put(tail + kTail - 4, {tail, kTail - 4});
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 != 0) mend_sums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint8_t> bytes(data, data + size);
  const bool whole = fuzz::accepts([&] {
    const data::Pack pack = data::parse_pack(bytes, "fuzz.pack");
    std::size_t keys = 0;
    for (std::size_t i = 0; i < pack.count; ++i) {
      keys += pack.key(i).size();
      const data::ByteSpan stored = pack.stored(i);
      fuzz::expect(stored.data() >= bytes.data() &&
                       stored.data() + stored.size() <= bytes.data() + bytes.size(),
                   "a record inside the pack");
    }
    fuzz::expect(keys <= size, "keys that do not overlap");
  });
  if (!whole) return 0;
  const fuzz::File file({data, size});
  data::Records records;
  fuzz::expect(fuzz::accepts([&] { records = data::open_pack(file.path()); }),
               "what is parsed is opened");
  data::Records::Scratch scratch;
  static volatile std::uint8_t last = 0;  // so that the bytes are read
  for (std::int64_t i = 0; i < records.size(); ++i) {
    fuzz::accepts([&] {
      for (const std::uint8_t byte : records.read(i, scratch).bytes) last = byte;
    });
    fuzz::accepts([&] {
      if (records.verify) records.verify(i);
    });
    fuzz::expect(!records.name(i).empty(), "a name");
  }
  return 0;
}
