#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little endian");

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr const char* kMetadata = "__metadata__";

std::string text(const Shape& shape) {
  std::string joined = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    joined += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return joined + "]";
}

/// Bytes of `shape` elements; false where the product does not fit.
bool bytes_of(const Shape& shape, std::size_t element, std::uint64_t& bytes) {
  bytes = element;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return false;
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) return false;
  }
  return true;
}

bool read_at(int descriptor, void* out, std::uint64_t bytes, std::uint64_t offset) {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
  return true;
}

/// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
float from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return sign * (fraction != 0 ? NAN : INFINITY);
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

template <class T, class Convert>
std::vector<float> converted(const std::vector<char>& bytes, Convert convert) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
    values[i] = convert(element);
  }
  return values;
}

/// Parses the header and refuses a key that comes twice, which JSON parsers pass over in silence.
nlohmann::json parse_header(const std::string& header, const std::string& path) {
  std::set<std::string> names;
  std::string twice;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1) {
      const std::string name = parsed.get<std::string>();
      if (!names.insert(name).second) twice = name;
    }
    return true;
  };
  nlohmann::json root;
  try {
    root = nlohmann::json::parse(header, watch);
  } catch (const nlohmann::json::exception& error) {
    fail(Exit::data, path, ": its header is not JSON (", error.what(), "); write the file again");
  }
  if (!root.is_object()) fail(Exit::data, path, ": its header is not a JSON object");
  if (!twice.empty()) fail(Exit::data, path, ": tensor '", twice, "' is listed twice");
  return root;
}

Safetensors::Entry parse_entry(const std::string& name, const nlohmann::json& value,
                               const std::string& path) {
  const auto bad = [&](const auto&... parts) {
    fail(Exit::data, path, ": tensor '", name, "' ", parts...);
  };
  Safetensors::Entry entry{name, "", {}, 0, 0};
  const auto unsigned_list = [](const nlohmann::json& list) {
    return list.is_array() && std::all_of(list.begin(), list.end(), [](const nlohmann::json& n) {
             return n.is_number_unsigned() && n.get<std::uint64_t>() < std::uint64_t{1} << 62;
           });
  };
  if (!value.is_object()) bad("is not described by an object");
  const nlohmann::json type = value.value("dtype", nlohmann::json());
  const nlohmann::json shape = value.value("shape", nlohmann::json());
  const nlohmann::json offsets = value.value("data_offsets", nlohmann::json());
  if (!type.is_string()) bad("has no dtype");
  if (!unsigned_list(shape)) bad("has no shape of non-negative integers");
  if (!unsigned_list(offsets) || offsets.size() != 2) bad("has no data_offsets [begin, end]");
  entry.type = type.get<std::string>();
  entry.shape = shape.get<Shape>();
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  const std::size_t element = safetensors_element(entry.type);
  if (element == 0) bad("has the unknown dtype '", entry.type, "'");
  std::uint64_t bytes = 0;
  if (!bytes_of(entry.shape, element, bytes)) bad("has an impossible shape ", text(entry.shape));
  if (entry.begin > entry.end || entry.end - entry.begin != bytes) {
    bad("has offsets [", entry.begin, ", ", entry.end, "], but ", entry.type, " ",
        text(entry.shape), " takes ", bytes, " bytes");
  }
  return entry;
}

}  // namespace

std::size_t safetensors_element(const std::string& type) {
  static const std::map<std::string, std::size_t> sizes = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
      {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};
  const auto found = sizes.find(type);
  return found == sizes.end() ? 0 : found->second;
}

FileSum write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                          const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  header[kMetadata] = metadata;
  std::vector<std::uint64_t> sizes;
  std::uint64_t offset = 0;
  Hash hash;
  for (const StoredTensor& tensor : tensors) {
    std::uint64_t bytes = 0;
    const std::size_t element = safetensors_element(tensor.type);
    if (element == 0 || !bytes_of(tensor.shape, element, bytes)) {
      fail(Exit::data, path, ": tensor '", tensor.name, "' cannot be stored as ", tensor.type, " ",
           text(tensor.shape));
    }
    if (tensor.name == kMetadata || header.contains(tensor.name)) {
      fail(Exit::data, path, ": tensor '", tensor.name, "' is listed twice");
    }
    header[tensor.name] = {{"dtype", tensor.type},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    sizes.push_back(bytes);
    offset += bytes;
    hash.add(tensor.data, bytes);
  }
  header[kMetadata][kChecksum] = hash.digits();
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();

  NewFile file(path);
  Hash all;
  const auto put = [&](const void* data, std::uint64_t bytes) {
    file.write(data, bytes);
    all.add(data, bytes);
  };
  put(&length, sizeof length);
  put(text.data(), text.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) put(tensors[i].data, sizes[i]);
  file.commit();
  return {sizeof length + length + offset, all.digits()};
}

Safetensors::Safetensors(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    fail(Exit::data, path_, ": cannot be read (", std::strerror(errno), "); check the path");
  }
  try {
    struct stat about {};
    const bool regular = ::fstat(descriptor_, &about) == 0 && S_ISREG(about.st_mode);
    const std::uint64_t size = regular ? static_cast<std::uint64_t>(about.st_size) : 0;
    std::uint64_t length = 0;
    if (size < sizeof length || !read_at(descriptor_, &length, sizeof length, 0)) {
      fail(Exit::data, path_, ": is not a safetensors file (shorter than 8 bytes)");
    }
    if (length > kMaxHeader || length > size - sizeof length) {
      fail(Exit::data, path_, ": is not a safetensors file, or is cut short (a header of ", length,
           " bytes in a file of ", size, ")");
    }
    std::string header(length, '\0');
    if (!read_at(descriptor_, header.data(), length, sizeof length)) {
      fail(Exit::data, path_, ": cannot be read (", std::strerror(errno), ")");
    }
    data_start_ = sizeof length + length;
    parse(header, size - data_start_);
    verify(size - data_start_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

Safetensors::~Safetensors() { ::close(descriptor_); }

void Safetensors::parse(const std::string& header, std::uint64_t data_bytes) {
  const nlohmann::json root = parse_header(header, path_);
  for (const auto& [name, value] : root.items()) {
    if (name != kMetadata) {
      entries_.push_back(parse_entry(name, value, path_));
      continue;
    }
    try {
      metadata_ = value.get<std::map<std::string, std::string>>();
    } catch (const nlohmann::json::exception&) {
      fail(Exit::data, path_, ": its ", kMetadata, " is not an object of strings");
    }
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t covered = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.begin != covered) {
      fail(Exit::data, path_, ": tensor '", entry.name, "' starts at byte ", entry.begin,
           entry.begin < covered ? " inside the tensor before it, which ends at "
                                 : " and leaves a hole after byte ",
           covered);
    }
    covered = entry.end;
    by_name_[entry.name] = i;
  }
  if (covered != data_bytes) {
    fail(Exit::data, path_, ": holds ", data_bytes, " bytes of data, but its ", entries_.size(),
         " tensors take ", covered, "; is it cut short?");
  }
}

void Safetensors::verify(std::uint64_t data_bytes) const {
  const auto written = metadata_.find(kChecksum);
  if (written == metadata_.end()) return;
  Hash hash;
  std::vector<char> piece(std::min<std::uint64_t>(data_bytes, std::uint64_t{1} << 20));
  for (std::uint64_t at = 0; at < data_bytes; at += piece.size()) {
    const std::uint64_t bytes = std::min<std::uint64_t>(piece.size(), data_bytes - at);
    if (!read_at(descriptor_, piece.data(), bytes, data_start_ + at)) {
      fail(Exit::data, path_, ": cannot be read (", std::strerror(errno), ")");
    }
    hash.add(piece.data(), bytes);
  }
  if (hash.digits() != written->second) {
    fail(Exit::data, path_, ": is damaged: the checksum of its data is ", hash.digits(),
         ", that of what was written ", written->second, "; get the file again");
  }
}

const Safetensors::Entry* Safetensors::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

const Safetensors::Entry& Safetensors::at(const std::string& name) const {
  const Entry* entry = find(name);
  if (entry == nullptr) {
    fail(Exit::data, path_, ": has no tensor '", name, "'; was it written for another network?");
  }
  return *entry;
}

void Safetensors::read(const std::string& name, const std::string& type, const Shape& shape,
                       void* out) const {
  const Entry& entry = at(name);
  if (entry.type != type || entry.shape != shape) {
    fail(Exit::data, path_, ": tensor '", name, "' is ", entry.type, " ", text(entry.shape),
         ", but ", type, " ", text(shape), " is needed; was it written for another network?");
  }
  if (!read_at(descriptor_, out, entry.end - entry.begin, data_start_ + entry.begin)) {
    fail(Exit::data, path_, ": tensor '", name, "' cannot be read; is the file cut short?");
  }
}

std::vector<float> Safetensors::read_floats(const std::string& name) const {
  const Entry& entry = at(name);
  std::vector<char> bytes(entry.end - entry.begin);
  read(name, entry.type, entry.shape, bytes.data());
  if (entry.type == "F32") return converted<float>(bytes, [](float x) { return x; });
  if (entry.type == "F16") return converted<std::uint16_t>(bytes, from_half);
  if (entry.type == "F64") {
    return converted<double>(bytes, [](double x) { return static_cast<float>(x); });
  }
  if (entry.type == "BF16") {
    return converted<std::uint16_t>(
        bytes, [](std::uint16_t x) { return std::bit_cast<float>(std::uint32_t{x} << 16); });
  }
  fail(Exit::data, path_, ": tensor '", name, "' is ", entry.type,
       ", but real numbers (F32, F64, F16 or BF16) are needed");
}

}  // namespace tunas::engine
