// The index of an archive: where its samples lie and what their labels are, so that a tar or
// TFRecord file is walked once and not at every start.
//
// Kept in a file of its own, beside the archive as FILE.index or, where that folder cannot be
// written, as NAME-HASH.index in $XDG_CACHE_HOME/tunas (~/.cache/tunas). Little-endian:
//
//   8 bytes   "TUNASIDX"
//   u32 x 4   version, format of the archive, CRC-32C of its first 4096 bytes, nanoseconds of mtime
//   i64 u64   seconds of its mtime, its size
//   u64 u64   n samples, k bytes of keys
//   n x u64   offsets; n x u64 sizes; n x u64 ends of the keys; n x i32 labels; k bytes of keys
//   u32       CRC-32C of all before
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/mapped_file.h"
#include "data/names.h"

namespace tunas::data {

/// What must not have changed since an archive was indexed.
struct Fingerprint {
  std::uint64_t size = 0;
  std::int64_t seconds = 0;  // of the last change
  std::uint32_t nanoseconds = 0;
  std::uint32_t head = 0;  // checksum of the first 4096 bytes
  bool operator==(const Fingerprint&) const = default;
};

Fingerprint fingerprint(const MappedFile& file);

/// The samples of one archive, in stored order.
struct Index {
  std::vector<std::uint64_t> offsets, sizes;  // bytes [offset, offset + size) of the archive
  std::vector<std::int32_t> labels;
  Names keys;

  std::size_t size() const { return labels.size(); }
  void add(std::string_view key, std::uint64_t offset, std::uint64_t size, std::int32_t label);
};

/// What an index file holds.
struct StoredIndex {
  std::uint32_t format = 0;  // ArchiveFormat::code
  Fingerprint of;
  Index index;
};

std::vector<std::uint8_t> index_bytes(const StoredIndex& stored);
/// Error(data) naming `path` unless `bytes` are a whole index whose checksum holds and whose
/// samples lie inside an archive of the size that it states.
StoredIndex parse_index(ByteSpan bytes, const std::string& path);

/// Where the index of an archive is looked for and put, best first; the second may be empty.
std::string index_beside(const std::string& archive);
std::string index_in_cache(const std::string& archive);

}  // namespace tunas::data
