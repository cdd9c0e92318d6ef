#include "data/tar.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "data/archives.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

using Bytes = ByteSpan;
constexpr std::size_t kBlock = 512;

/// A header block of USTAR; fields are text padded with zero bytes.
struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
  char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
static_assert(sizeof(Header) == kBlock);

template <std::size_t N>
std::string_view text(const char (&field)[N]) {
  return {field, strnlen(field, N)};
}

template <std::size_t N>
bool parse_number(const char (&field)[N], std::uint64_t& value) {
  value = 0;
  if (static_cast<unsigned char>(field[0]) == 0x80) {  // GNU: big-endian binary
    for (std::size_t i = 1; i < N; ++i) {
      if (value >> 48) return false;
      value = value << 8 | static_cast<unsigned char>(field[i]);
    }
    return true;
  }
  std::string_view digits = text(field);
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  while (digits.ends_with(' ')) digits.remove_suffix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
  return error == std::errc() && end == digits.data() + digits.size();
}

bool checksum_holds(const Header& header) {
  std::uint64_t stored = 0, sum = 8 * ' ';  // the field itself counts as blanks
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  for (std::size_t i = 0; i < kBlock; ++i) sum += bytes[i];
  for (char c : header.checksum) sum -= static_cast<unsigned char>(c);
  return parse_number(header.checksum, stored) && stored == sum;
}

bool all_zero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t b) { return b == 0; });
}

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What a pax header ("LENGTH KEY=VALUE\n"...) says of the next member. False if unreadable.
bool parse_pax(std::string_view records, std::string& path, std::string& size) {
  while (!records.empty()) {
    std::size_t length = 0;
    const auto [end, error] =
        std::from_chars(records.data(), records.data() + records.size(), length);
    const auto digits = static_cast<std::size_t>(end - records.data());
    if (error != std::errc() || length > records.size() || length < digits + 2) return false;
    const std::string_view record = records.substr(digits + 1, length - digits - 2);
    if (record.starts_with("path=")) path = record.substr(5);
    if (record.starts_with("size=")) size = record.substr(5);
    records.remove_prefix(length);
  }
  return true;
}

class Reader {
 public:
  Reader(Bytes archive, const std::string& path) : archive_(archive), path_(path) {}

  std::vector<TarMember> read() {
    std::vector<TarMember> members;
    while (at_ + kBlock <= archive_.size()) {
      if (all_zero(archive_.subspan(at_, kBlock))) {
        if (!all_zero(archive_.subspan(at_))) {
          stop("data after the end of the archive; join tars with tar --concatenate, not cat");
        }
        return members;
      }
      read_member(members);
    }
    stop("the end-of-archive block is missing: the file is truncated");
  }

 private:
  [[noreturn]] void stop(const std::string& reason) const {
    fail(Exit::data, path_, ": ", reason, " (at byte ", at_, ")");
  }

  void read_member(std::vector<TarMember>& members) {
    Header header;
    std::memcpy(&header, archive_.data() + at_, kBlock);
    if (!checksum_holds(header)) stop("not a tar header: checksum does not hold");
    TarMember member;
    member.name = std::string(text(header.name));
    if (text(header.magic) == "ustar" && header.prefix[0]) {
      member.name = std::string(text(header.prefix)) + "/" + member.name;
    }
    if (!parse_number(header.size, member.size)) stop(member.name + ": size is no number");
    const bool regular = header.type == '0' || header.type == '\0' || header.type == '7';
    const bool linked = header.type >= '1' && header.type <= '6';  // links, devices, folders
    if (regular || linked) apply_overrides(member);
    if (linked) member.size = 0;
    member.offset = at_ + kBlock;
    if (member.size > archive_.size() - member.offset) {
      stop(member.name + ": reaches beyond the end: the file is truncated");
    }
    if (header.type == 'x') read_pax(member);
    if (header.type == 'L') long_name_ = text_of(member);
    at_ = member.offset + (member.size + kBlock - 1) / kBlock * kBlock;
    if (regular) members.push_back(std::move(member));
  }

  std::string text_of(const TarMember& member) const {
    const std::string_view whole = as_text(archive_.subspan(member.offset, member.size));
    return std::string(whole.substr(0, whole.find('\0')));
  }

  void read_pax(const TarMember& member) {
    const auto records = as_text(archive_.subspan(member.offset, member.size));
    if (!parse_pax(records, long_name_, pax_size_)) stop("pax header cannot be read");
  }

  /// What the headers before this one said of it.
  void apply_overrides(TarMember& member) {
    if (!long_name_.empty()) member.name = long_name_;
    if (!pax_size_.empty()) {
      const char* end = pax_size_.data() + pax_size_.size();
      const auto parsed = std::from_chars(pax_size_.data(), end, member.size);
      if (parsed.ec != std::errc() || parsed.ptr != end) stop(member.name + ": size is no number");
    }
    long_name_.clear();
    pax_size_.clear();
  }

  Bytes archive_;
  const std::string& path_;
  std::size_t at_ = 0;
  std::string long_name_, pax_size_;
};

std::string shown(std::string_view text) {
  std::string out(text.substr(0, 20));
  for (char& c : out) c = c < ' ' || c > '~' ? '?' : c;
  return out;
}

/// Of KEY.cls, decimal.
std::int32_t parse_label(std::string_view digits, const std::string& what) {
  while (!digits.empty() && std::strchr(" \r\n\t", digits.back())) digits.remove_suffix(1);
  std::int64_t label = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, label);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    fail(Exit::data, what, ": \"", shown(digits), "\" is no class number");
  }
  return check_label(label, what);
}

/// Of KEY.json, an object with a whole number under "label" or "cls".
std::int32_t parse_json_label(std::string_view text, const std::string& what) {
  constexpr std::size_t kMostBytes = 16 << 20;
  if (text.size() > kMostBytes) fail(Exit::data, what, ": is larger than ", kMostBytes, " bytes");
  const nlohmann::json all = nlohmann::json::parse(text, nullptr, false);
  if (all.is_discarded()) fail(Exit::data, what, ": \"", shown(text), "\" is not JSON");
  for (const char* name : {"label", "cls"}) {
    if (!all.is_object() || !all.contains(name)) continue;
    const nlohmann::json& label = all[name];
    if (label.is_number_unsigned() && label.get<std::uint64_t>() >= kMaxClasses) {
      fail(Exit::data, what, ": label ", label.dump(), " is not in 0..", kMaxClasses - 1);
    }
    if (label.is_number_integer()) return check_label(label.get<std::int64_t>(), what);
    fail(Exit::data, what, ": \"", name, "\" is no whole number");
  }
  fail(Exit::data, what, ": has no whole number \"label\" or \"cls\", and there is no .cls");
}

/// What an archive holds of one key; an offset of 0 (a header's) stands for absence.
struct Parts {
  std::size_t image = 0;  // number of the image, from 1
  TarMember cls, json;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

}  // namespace

std::vector<TarMember> tar_members(Bytes archive, const std::string& path) {
  return Reader(archive, path).read();
}

std::vector<TarSample> tar_samples(Bytes archive, const std::string& path) {
  std::vector<TarSample> samples;
  std::map<std::string, Parts> keys;
  for (TarMember& member : tar_members(archive, path)) {
    const std::size_t slash = member.name.rfind('/') + 1;  // 0 where there is none
    const std::size_t dot = member.name.find('.', slash);
    if (dot == std::string::npos) continue;
    const std::string key = member.name.substr(0, dot), ending = lower(member.name.substr(dot + 1));
    const bool image = ending == "jpg" || ending == "jpeg" || ending == "png";
    if (!image && ending != "cls" && ending != "json") continue;
    Parts& parts = keys[key];
    TarMember& label = ending == "cls" ? parts.cls : parts.json;
    if (image ? parts.image != 0 : label.offset != 0) {
      fail(Exit::data, path, ": ", member.name, ": this key comes twice (at byte ", member.offset,
           "); keys are names up to their first dot");
    }
    if (image) {
      samples.push_back({key, member.offset, member.size, 0});
      parts.image = samples.size();
    } else {
      label = std::move(member);
    }
  }
  const auto text = [&](const TarMember& member) {
    return as_text(archive.subspan(member.offset, member.size));
  };
  for (auto& [key, parts] : keys) {
    const bool has_cls = parts.cls.offset != 0, has_json = parts.json.offset != 0;
    if (parts.image == 0) {
      if (!has_cls) continue;  // JSON may be about the archive
      fail(Exit::data, path, ": ", key, ".cls has no ", key, ".jpg, .jpeg or .png");
    }
    if (!has_cls && !has_json) fail(Exit::data, path, ": ", key, ".cls is missing");
    samples[parts.image - 1].label =
        has_cls ? parse_label(text(parts.cls), path + ": " + key + ".cls")
                : parse_json_label(text(parts.json), path + ": " + key + ".json");
  }
  return samples;
}

namespace {

Index index_tar(Bytes archive, const std::string& path) {
  Index index;
  for (const TarSample& sample : tar_samples(archive, path)) {
    index.add(sample.key, sample.offset, sample.size, sample.label);
  }
  return index;
}

Content tar_content(Bytes archive, std::uint64_t offset, std::uint64_t size) {
  return Content{archive.subspan(offset, size)};
}

}  // namespace

const ArchiveFormat kTar = {"tar", 1, "KEY.jpg, .jpeg or .png with KEY.cls or KEY.json", index_tar,
                            tar_content};

}  // namespace tunas::data
