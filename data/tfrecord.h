// TFRecord files of tf.train.Example, uncompressed. A record is
//
//   u64 length | u32 masked CRC-32C of those 8 bytes | data | u32 masked CRC-32C of the data
//
// little-endian, and its data a protobuf: Example{1: Features{1: map<string, Feature>}}, a Feature
// being one of {1: list of bytes, 2: of floats, 3: of int64}. Two conventions are read:
//
//   TensorFlow Datasets   "image" bytes, "label" from 0, "file_name" (or "id")
//   Inception, TF-Slim    "image/encoded" bytes, "image/class/label" from 1, where 0 is the
//                         background of ImageNet's 1001 classes, "image/filename"
//
// Labels are counted from 0 in both: Inception's are lowered by one, and its 0, which no image has,
// is an error. A file that counts "image/class/label" from 0 is thereby refused, not misread.
//
// Walking over a file checks the lengths; the data's checksum is checked whenever a record is read.
// Records: open_archives(kTfrecord, pattern) of data/archives.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/mapped_file.h"

namespace tunas::data {

/// Where the data of a record lies.
struct Stretch {
  std::uint64_t offset = 0, size = 0;
};

/// All records of a file, in order. Error(data) naming `path` and the byte for a length whose
/// checksum does not hold, a file that ends early, or one that is compressed.
std::vector<Stretch> tfrecords(ByteSpan file, const std::string& path);

/// What is used of an Example; all inside the bytes that were parsed.
struct Example {
  ByteSpan image;
  std::int64_t label = 0;  // from 0
  std::string_view key;    // may be empty
};

/// Error(data) with the reason alone where `data` is no protobuf, or lacks image or label.
Example parse_example(ByteSpan data);

}  // namespace tunas::data
