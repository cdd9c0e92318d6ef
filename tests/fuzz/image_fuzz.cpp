// data::Decoder: JPEG, PNG, anything else. The first byte chooses the region and the reduction.
// What is decoded must not depend on what the decoder saw before, nor on what lay in the memory.
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "data/decode.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tunas;
using namespace tunas::data;

constexpr std::int64_t kPixels = 1 << 21;  // more would only be slow

struct Choice {
  Region region;
  Reduction reduction;
};

Choice choose(Size size, std::uint8_t bits, fuzz::Bytes bytes) {
  Choice choice;
  const bool jpeg = bytes.size() > 1 && bytes[0] == 0xFF && bytes[1] == 0xD8;
  if (jpeg && bits & 1) choice.reduction.by = 2 << (bits >> 1) % 3;
  const Size small = {(size.h + choice.reduction.by - 1) / choice.reduction.by,
                      (size.w + choice.reduction.by - 1) / choice.reduction.by};
  choice.region = {0, 0, small.h, small.w};
  if (bits & 8) choice.region = {small.h / 3, small.w / 3, small.h / 3 + 1, small.w / 3 + 1};
  if (bits & 16) choice.region.y = small.h - choice.region.h;
  if (bits & 32) choice.region.x = small.w - choice.region.w;
  return choice;
}

/// The pixels, into memory full of `poison`; empty where the image was refused.
std::vector<std::uint8_t> decode(Decoder& decoder, std::uint8_t bits, fuzz::Bytes bytes,
                                 std::uint8_t poison) {
  std::vector<std::uint8_t> rgb;
  const bool whole = fuzz::accepts([&] {
    const Size size = decoder.open({bytes});
    fuzz::expect(size.h > 0 && size.w > 0, "a size");
    if (static_cast<std::int64_t>(size.h) * size.w > kPixels) return;
    const Choice choice = choose(size, bits, bytes);
    const Region& region = choice.region;
    rgb.assign(3UL * static_cast<std::size_t>(region.h) * static_cast<std::size_t>(region.w),
               poison);
    decoder.read(region, rgb.data(), choice.reduction);
  });
  if (whole) return rgb;
  fuzz::expect(decoder.stopped_at() >= 0 && decoder.stopped_at() <= std::ssize(bytes),
               "a place inside the image");
  return {};
}

/// Makes the sums of a PNG's chunks right, without which no mutant would get past the first.
void mend_sums(std::uint8_t* png, std::size_t size) {
  constexpr std::size_t kAround = 12;
  for (std::size_t at = 8; at + kAround <= size;) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | png[at + i];
    if (length > size - at - kAround) return;
    auto sum = static_cast<std::uint32_t>(crc32(0, png + at + 4, static_cast<uInt>(length + 4)));
    for (std::size_t i = 4; i-- > 0; sum >>= 8) {
      png[at + length + 8 + i] = static_cast<std::uint8_t>(sum);
    }
    at += kAround + length;
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (size > 8 && std::memcmp(data + 1, "\x89PNG", 4) == 0 && seed % 8 != 0) {
    mend_sums(data + 1, size - 1);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static Decoder used;
  Decoder fresh;
  const std::vector<std::uint8_t> bytes(data + 1,
                                        data + size);  // exactly as long, for the sanitizer
  const auto first = decode(used, data[0], bytes, 0x5A),
             second = decode(fresh, data[0], bytes, 0xC3);
  fuzz::expect(first == second, "the same pixels again");
  return 0;
}
