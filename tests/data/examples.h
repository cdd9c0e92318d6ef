// tf.train.Examples and TFRecords made by hand, field by field.
#pragma once

#include <string>

#include "engine/crc32c.h"
#include "tests/data/samples.h"

namespace tunas::data::testing {

inline void append(Bytes& bytes, const Bytes& more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

inline Bytes varint(std::uint64_t value) {
  Bytes bytes;
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<std::uint8_t>(value | 128));
  bytes.push_back(static_cast<std::uint8_t>(value));
  return bytes;
}

/// A field with a length: bytes, text or a message.
inline Bytes field(std::uint64_t number, const Bytes& contents) {
  Bytes bytes = varint(number << 3 | 2);
  append(bytes, varint(contents.size()));
  append(bytes, contents);
  return bytes;
}

inline Bytes number_field(std::uint64_t number, std::uint64_t value) {
  Bytes bytes = varint(number << 3);
  append(bytes, varint(value));
  return bytes;
}

/// A Feature of one string, or of whole numbers, packed.
inline Bytes bytes_feature(const Bytes& value) { return field(1, field(1, value)); }
inline Bytes int_feature(const std::vector<std::int64_t>& values) {
  Bytes packed;
  for (const std::int64_t value : values) append(packed, varint(static_cast<std::uint64_t>(value)));
  return field(3, field(1, packed));
}

/// An entry of Features.
inline Bytes entry(const std::string& name, const Bytes& feature) {
  Bytes contents = field(1, bytes_of(name));
  append(contents, field(2, feature));
  return field(1, contents);
}

/// An Example of entries.
inline Bytes example(const std::vector<Bytes>& entries) {
  Bytes features;
  for (const Bytes& each : entries) append(features, each);
  return field(1, features);
}

/// As TensorFlow Datasets writes it.
inline Bytes example_of(const Bytes& image, std::int64_t label, const std::string& name) {
  return example({entry("file_name", bytes_feature(bytes_of(name))),
                  entry("image", bytes_feature(image)), entry("label", int_feature({label}))});
}

/// A record of a TFRecord file.
inline Bytes tfrecord_of(const Bytes& data) {
  const auto put = [](Bytes& bytes, std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> 8 * i));
  };
  Bytes record;
  put(record, data.size(), 8);
  put(record, engine::masked(engine::crc32c(record)), 4);
  append(record, data);
  put(record, engine::masked(engine::crc32c(data)), 4);
  return record;
}

}  // namespace tunas::data::testing
