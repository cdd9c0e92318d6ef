// safetensors: named arrays in one file, as the wider ecosystem reads them.
//
//   bytes 0..7   length L of the header, little endian
//   then         L bytes of JSON, padded with blanks to a multiple of 8:
//                {"__metadata__": {"k": "v"}, "name": {"dtype": "F32", "shape": [2, 3],
//                 "data_offsets": [begin, end]}, ...}
//   then         the data; offsets count from here, arrays touch and cover all of it
//
// The library is little endian like the format. A file is never trusted: sizes, types, overlaps,
// holes, duplicates and the length of the file are checked before a byte of data is read. Files
// written here carry the XXH64 of their data in the metadata (kChecksum); where a file has one, its
// data are held to it when it is opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/hash.h"

namespace tunas::engine {

using Shape = std::vector<std::int64_t>;

/// Key of the metadata: XXH64 of all data, seed 0, as 16 hexadecimal digits.
inline constexpr const char* kChecksum = "data_xxh64";

/// An array to be written. `type` is the format's name of it: F32, F64, I64, I32, U8, BF16, ...
struct StoredTensor {
  std::string name;
  std::string type = "F32";
  Shape shape;
  const void* data = nullptr;  // dense, last axis fastest
};

/// Bytes of one element of a format type; 0 for an unknown one.
std::size_t safetensors_element(const std::string& type);

/// Writes the arrays in the given order, with their checksum beside `metadata`; the file appears
/// complete or not at all. Returns the sum of what was written, taken before it went to the disk.
/// Error(Exit::data) naming file and tensor.
FileSum write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                          const std::map<std::string, std::string>& metadata = {});

class Safetensors {
 public:
  struct Entry {
    std::string name;
    std::string type;
    Shape shape;
    std::uint64_t begin = 0, end = 0;  // bytes, from the start of the data
  };

  /// Opens and checks the file. Error(Exit::data) naming file and tensor, or the two checksums.
  explicit Safetensors(std::string path);
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;
  ~Safetensors();

  const std::string& path() const { return path_; }
  const std::vector<Entry>& entries() const { return entries_; }  // in data order
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const Entry* find(const std::string& name) const;  // null: not there

  /// Reads `name`, which must exist with just this type and shape, into `out`.
  void read(const std::string& name, const std::string& type, const Shape& shape, void* out) const;
  /// Elements of `name`, which must exist and be F64, F32, F16 or BF16, as floats: F64 is rounded,
  /// the others are exact.
  std::vector<float> read_floats(const std::string& name) const;

 private:
  void parse(const std::string& header, std::uint64_t data_bytes);
  void verify(std::uint64_t data_bytes) const;
  const Entry& at(const std::string& name) const;

  std::string path_;
  int descriptor_ = -1;
  std::uint64_t data_start_ = 0;
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace tunas::engine
