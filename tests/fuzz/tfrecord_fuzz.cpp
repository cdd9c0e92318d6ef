// data::tfrecords and data::parse_example: the file, and its bytes taken for one Example.
#include <cstring>
#include <vector>

#include "data/tfrecord.h"
#include "engine/crc32c.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tunas;

bool is_inside(const void* data, std::size_t size, const std::vector<std::uint8_t>& bytes) {
  const auto* first = static_cast<const std::uint8_t*>(data);
  return size == 0 || (first >= bytes.data() && first + size <= bytes.data() + bytes.size());
}

void read_example(data::ByteSpan data, const std::vector<std::uint8_t>& bytes) {
  fuzz::accepts([&] {
    const data::Example example = data::parse_example(data);
    fuzz::expect(is_inside(example.image.data(), example.image.size(), bytes), "an image inside");
    fuzz::expect(is_inside(example.key.data(), example.key.size(), bytes), "a key inside");
  });
}

/// Makes the checksums of the records right, as far as their lengths fit.
void mend_sums(std::uint8_t* file, std::size_t size) {
  constexpr std::size_t kHead = 12, kTail = 4;
  const auto put = [](std::uint8_t* to, fuzz::Bytes of) {
    const std::uint32_t sum = engine::masked(engine::crc32c(of));
    std::memcpy(to, &sum, sizeof sum);
  };
  while (size >= kHead + kTail) {
    std::uint64_t length = 0;
    std::memcpy(&length, file, sizeof length);
    put(file + 8, {file, 8});
    if (length > size - kHead - kTail) return;
    put(file + kHead + length, {file + kHead, length});
    file += kHead + length + kTail;
    size -= kHead + length + kTail;
  }
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
  read_example(bytes, bytes);
  fuzz::accepts([&] {
    for (const data::Stretch& record : data::tfrecords(bytes, "fuzz.tfrecord")) {
      fuzz::expect(record.offset <= size && record.size <= size - record.offset,
                   "a record inside the file");
      read_example(data::ByteSpan(bytes).subspan(record.offset, record.size), bytes);
    }
  });
  return 0;
}
