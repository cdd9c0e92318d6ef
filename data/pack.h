// A pack: a whole data set in one file, made by `tunas data pack`. Records of any format, in any
// order, as they are encoded (JPEG or PNG) or decoded to pixels. Little-endian:
//
//   16 bytes     "TUNASPCK", u32 version, u32 payload
//   payloads     one behind the other: JPEG or PNG bytes, or pixels [h][w][3]
//   0..7 bytes   of zeros, up to a multiple of 8
//   n x 40       u64 end of the payload, u64 end of the key (in the keys), i32 label, u32 h, u32 w,
//                u32 CRC-32C of the payload, u32 0, u32 0
//   k bytes      keys
//   j bytes      JSON: where the records came from
//   64 bytes     u64 n, u64 end of the payloads, u64 k, u64 j, u64 0, u32 CRC-32C of table, keys
//   and
//                JSON, u32 payload, u32 version, "TUNASPCK", u32 CRC-32C of these bytes before it
//
// The tables come last because sizes are known only when all is written; so a file that was cut
// short has none. Everything but the payloads is checked when a pack is opened; an encoded payload
// is checked when it is read (its decoding takes 300 times as long); pixels, which take no
// decoding, by Records::verify, that is `tunas data check`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/mapped_file.h"
#include "data/names.h"
#include "data/records.h"
#include "data/region.h"
#include "engine/file.h"

namespace tunas::data {

enum class Payload : std::uint32_t { encoded = 0, pixels = 1 };

struct PackEntry {
  std::uint64_t end = 0, key_end = 0;
  std::int32_t label = 0;
  std::uint32_t h = 0, w = 0, crc = 0, zeros[2] = {};
};
static_assert(sizeof(PackEntry) == 40);

/// A pack's tables, views of its bytes.
struct Pack {
  Payload payload = Payload::encoded;
  std::size_t count = 0;
  ByteSpan bytes, entries;
  std::string_view keys, provenance;

  PackEntry entry(std::size_t i) const;
  std::uint64_t begin(std::size_t i) const;
  ByteSpan stored(std::size_t i) const;
  std::string_view key(std::size_t i) const;
};

/// Error(data) naming `path` unless `bytes` are a whole pack: checksums of the tables, ends that
/// rise and fit, labels, sizes of images up to kMaxPixels.
Pack parse_pack(ByteSpan bytes, const std::string& path);

/// The file is mapped. Error(data) as above.
Records open_pack(const std::string& path);

class PackWriter {
 public:
  /// The file appears with commit(), or never.
  PackWriter(std::string path, Payload payload);

  struct Record {
    ByteSpan bytes;
    Size size;  // of the image, in pixels
    std::int32_t label = 0;
    std::string key;
  };
  void add(const Record& record);
  /// `provenance` is JSON.
  void commit(const std::string& provenance);

  /// Written so far; after commit() the size of the file.
  std::uint64_t bytes() const { return end_; }

 private:
  void write(const void* data, std::size_t bytes);

  engine::NewFile file_;
  const Payload payload_;
  std::uint64_t end_ = 0;
  std::vector<PackEntry> entries_;
  std::string keys_;
};

}  // namespace tunas::data
