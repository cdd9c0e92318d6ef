// CRC-32C against the vectors of RFC 3720 and TensorFlow's masked ones.
#include "engine/crc32c.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tunas::engine {
namespace {

using Bytes = std::vector<std::uint8_t>;

TEST(Crc32c, VectorsOfTheStandard) {
  Bytes rising(32), falling(32);
  for (std::uint8_t i = 0; i < 32; ++i) rising[i] = i, falling[31 - i] = i;
  const std::string digits = "123456789";
  const std::pair<Bytes, std::uint32_t> vectors[] = {{{}, 0},
                                                     {Bytes(32, 0), 0x8A9136AA},
                                                     {Bytes(32, 0xFF), 0x62A8AB43},
                                                     {rising, 0x46DD794E},
                                                     {falling, 0x113FDB5C},
                                                     {{digits.begin(), digits.end()}, 0xE3069283}};
  for (const auto& [bytes, crc] : vectors) {
    EXPECT_EQ(crc32c(bytes), crc);
    EXPECT_EQ(crc32c_by_table(bytes), crc);
  }
}

TEST(Crc32c, PartsGiveTheSameAsTheWhole) {
  Bytes bytes(1000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * i >> 3);
  const std::span<const std::uint8_t> all(bytes);
  const std::uint32_t whole = crc32c(all);
  for (std::size_t cut = 0; cut <= 40; ++cut) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole) << cut;
    EXPECT_EQ(crc32c_by_table(all.subspan(cut), crc32c_by_table(all.first(cut))), whole) << cut;
  }
}

TEST(Crc32c, MaskedAsTensorFlowStoresIt) {
  // The first twelve bytes of tests/golden/tfrecord/datasets.tfrecord: a length and its checksum.
  const Bytes length = {0xF7, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(masked(crc32c(length)), 0xB06E8CE5u);
}

}  // namespace
}  // namespace tunas::engine
