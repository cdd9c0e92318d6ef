#include "data/tfrecord.h"

#include <cstring>
#include <optional>

#include "data/archives.h"
#include "engine/crc32c.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

constexpr std::size_t kHead = 12, kTail = 4;  // bytes around the data of a record

template <class T>
T little(ByteSpan bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// ---- protobuf's wire format

[[noreturn]] void refuse(const char* reason) {
  fail(Exit::data, "not a tf.train.Example: ", reason);
}

/// A field of a message: a number, or the bytes of what has a length.
struct Field {
  std::uint64_t number = 0;
  bool has_bytes = false;
  std::uint64_t value = 0;
  ByteSpan bytes;
};

/// Reads the fields of a message one after the other.
class Message {
 public:
  explicit Message(ByteSpan bytes) : left_(bytes) {}

  bool next(Field& field) {
    if (left_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {tag >> 3, false, 0, {}};
    if (field.number == 0) refuse("a field has number 0");
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        skip(8);
        break;
      case 2:
        field.has_bytes = true;
        field.bytes = skip(varint());
        break;
      case 5:
        skip(4);
        break;
      default:
        refuse("a field has a type that protobuf does not have");
    }
    return true;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (left_.empty()) refuse("it ends within a number");
      const std::uint8_t byte = left_[0];
      left_ = left_.subspan(1);
      value |= std::uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    refuse("a number has more than 10 bytes");
  }
  bool empty() const { return left_.empty(); }

 private:
  ByteSpan skip(std::uint64_t count) {
    if (count > left_.size()) refuse("a field reaches beyond its end");
    const ByteSpan skipped = left_.first(count);
    left_ = left_.subspan(count);
    return skipped;
  }

  ByteSpan left_;
};

// ---- tf.train.Example

/// The first value of a feature, and how many there are.
struct Feature {
  ByteSpan bytes;
  std::int64_t number = 0;
  std::int64_t byte_values = 0, numbers = 0;
};

void add_number(Feature& feature, std::uint64_t value) {
  if (feature.numbers++ == 0) feature.number = static_cast<std::int64_t>(value);
}

/// BytesList or Int64List, whose numbers are packed or one field each.
void read_list(const Field& list, Feature& feature) {
  Message values(list.bytes);
  for (Field value; values.next(value);) {
    if (value.number != 1) continue;
    if (list.number == 1 && value.has_bytes) {
      if (feature.byte_values++ == 0) feature.bytes = value.bytes;
    } else if (list.number == 3 && value.has_bytes) {
      for (Message packed(value.bytes); !packed.empty();) add_number(feature, packed.varint());
    } else if (list.number == 3) {
      add_number(feature, value.value);
    }
  }
}

Feature read_feature(ByteSpan bytes) {
  Feature feature;
  Message lists(bytes);
  for (Field list; lists.next(list);) {
    if (list.has_bytes && (list.number == 1 || list.number == 3)) read_list(list, feature);
  }
  return feature;
}

std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The features of both conventions that an Example has; of two with one name the last counts.
struct Features {
  std::optional<Feature> image, encoded, label, class_label, file_name, filename, id;

  std::optional<Feature>* slot(std::string_view name) {
    if (name == "image") return &image;
    if (name == "image/encoded") return &encoded;
    if (name == "label") return &label;
    if (name == "image/class/label") return &class_label;
    if (name == "file_name") return &file_name;
    if (name == "image/filename") return &filename;
    return name == "id" ? &id : nullptr;
  }

  void read_entry(ByteSpan bytes) {
    std::string_view name;
    ByteSpan value;
    Message entry(bytes);
    for (Field part; entry.next(part);) {
      if (part.number == 1 && part.has_bytes) name = as_text(part.bytes);
      if (part.number == 2 && part.has_bytes) value = part.bytes;
    }
    if (std::optional<Feature>* at = slot(name)) *at = read_feature(value);
  }
};

const Feature& only_bytes(const Feature& feature, const char* name) {
  if (feature.byte_values != 1) {
    fail(Exit::data, "feature \"", name, "\" holds ", feature.byte_values, " images, not one");
  }
  return feature;
}

std::int64_t only_number(const Feature& feature, const char* name) {
  if (feature.numbers != 1) {
    fail(Exit::data, "feature \"", name, "\" holds ", feature.numbers, " whole numbers, not one");
  }
  return feature.number;
}

// ---- the archive

Index index_tfrecords(ByteSpan file, const std::string& path) {
  Index index;
  for (const Stretch& record : tfrecords(file, path)) {
    const std::string what = path + ": record " + std::to_string(index.size()) + " (at byte " +
                             std::to_string(record.offset) + ")";
    try {
      const Example example = parse_example(file.subspan(record.offset, record.size));
      const std::int32_t label = check_label(example.label, "its label");
      const std::string number = std::to_string(index.size());
      index.add(example.key.empty() ? number : example.key, record.offset, record.size, label);
    } catch (const Error& error) {
      // Is it another kind of record, or damage that only the data's checksum shows?
      const bool whole = engine::masked(engine::crc32c(file.subspan(record.offset, record.size))) ==
                         little<std::uint32_t>(file, record.offset + record.size);
      fail(Exit::data, what, ": ",
           whole ? error.what() : "its checksum does not hold; fetch the file again");
    }
  }
  return index;
}

Content tfrecord_content(ByteSpan file, std::uint64_t offset, std::uint64_t size) {
  // The index only says that the record lies in the file; its checksum lies behind it.
  if (size > file.size() - offset || file.size() - offset - size < kTail) {
    fail(Exit::data, "the index does not fit the file; remove the index");
  }
  const ByteSpan data = file.subspan(offset, size);
  if (engine::masked(engine::crc32c(data)) != little<std::uint32_t>(file, offset + size)) {
    fail(Exit::data, "the record's checksum does not hold; fetch the file again");
  }
  return Content{parse_example(data).image};
}

}  // namespace

std::vector<Stretch> tfrecords(ByteSpan file, const std::string& path) {
  std::vector<Stretch> records;
  std::size_t at = 0;
  const auto stop = [&](const char* reason) {
    fail(Exit::data, path, ": ", reason, " (at byte ", at, ")");
  };
  if (file.size() >= 2 && file[0] == 0x1F && file[1] == 0x8B) {
    stop("is gzipped; records are read in any order, so unpack it first (gunzip)");
  }
  while (at < file.size()) {
    if (file.size() - at < kHead) stop("the file ends within a record: it is truncated");
    const auto size = little<std::uint64_t>(file, at);
    if (engine::masked(engine::crc32c(file.subspan(at, 8))) !=
        little<std::uint32_t>(file, at + 8)) {
      stop(at == 0 ? "not a TFRecord file: the first length's checksum does not hold"
                   : "the checksum of a record's length does not hold; fetch the file again");
    }
    const std::size_t room = file.size() - at - kHead;
    if (room < kTail || size > room - kTail) {
      stop("a record reaches beyond the end: the file is truncated");
    }
    records.push_back({at + kHead, size});
    at += kHead + static_cast<std::size_t>(size) + kTail;
  }
  return records;
}

Example parse_example(ByteSpan data) {
  Features found;
  Message example(data);
  for (Field features; example.next(features);) {
    if (features.number != 1 || !features.has_bytes) continue;
    Message entries(features.bytes);
    for (Field entry; entries.next(entry);) {
      if (entry.number == 1 && entry.has_bytes) found.read_entry(entry.bytes);
    }
  }
  Example result;
  if (found.encoded) {
    result.image = only_bytes(*found.encoded, "image/encoded").bytes;
  } else if (found.image) {
    result.image = only_bytes(*found.image, "image").bytes;
  } else {
    fail(Exit::data, "has no feature \"image\" or \"image/encoded\" with the bytes of an image");
  }
  if (found.class_label) {
    result.label = only_number(*found.class_label, "image/class/label") - 1;
    if (result.label == -1) {
      fail(
          Exit::data,
          "\"image/class/label\" is 0, the background of Inception's ImageNet, whose classes count "
          "from 1; store labels that count from 0 as \"label\"");
    }
  } else if (found.label) {
    result.label = only_number(*found.label, "label");
  } else {
    fail(Exit::data, "has no feature \"label\" or \"image/class/label\"");
  }
  for (const auto& name : {found.file_name, found.filename, found.id}) {
    if (name && name->byte_values > 0 && result.key.empty()) result.key = as_text(name->bytes);
  }
  return result;
}

const ArchiveFormat kTfrecord = {"tfrecord", 2, "an Example with \"image\" and \"label\"",
                                 index_tfrecords, tfrecord_content};

}  // namespace tunas::data
