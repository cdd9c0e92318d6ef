// CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected), the checksum of TFRecords and of every
// file that the product checks itself. By the processor's instruction where it has one: about 8
// bytes in 3 cycles; by tables, 8 bytes at a time, where it has none.
#pragma once

#include <cstdint>
#include <span>

namespace tunas::engine {

/// Of `bytes`; `before` is the checksum of what came before them. "123456789" gives 0xE3069283.
std::uint32_t crc32c(std::span<const std::uint8_t> bytes, std::uint32_t before = 0);

/// What TFRecords store in place of a checksum, so that data which holds checksums has a good one.
constexpr std::uint32_t masked(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8u; }

/// The way without the instruction; for tests.
std::uint32_t crc32c_by_table(std::span<const std::uint8_t> bytes, std::uint32_t before = 0);

}  // namespace tunas::engine
