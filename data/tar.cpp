#include "data/tar.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "kernels/error.h"

namespace tunas::data {
namespace {

using Bytes = std::span<const std::uint8_t>;
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

std::int32_t parse_label(std::string_view digits, const std::string& what) {
  while (!digits.empty() && std::strchr(" \r\n\t", digits.back())) digits.remove_suffix(1);
  std::int64_t label = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, label);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    std::string shown(digits.substr(0, 20));
    for (char& c : shown) c = c < ' ' || c > '~' ? '?' : c;
    fail(Exit::data, what, ".cls: \"", shown, "\" is no class number");
  }
  return check_label(label, what + ".cls");
}

class MappedFile {
 public:
  explicit MappedFile(const std::string& path) : path_(path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info = {};
    if (file < 0 || fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
      const char* reason = file < 0 ? std::strerror(errno) : "not a file";
      if (file >= 0) close(file);
      fail(Exit::data, path, ": cannot be opened (", reason, ")");
    }
    size_ = static_cast<std::size_t>(info.st_size);
    data_ = size_ ? mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0) : nullptr;
    close(file);
    if (data_ == MAP_FAILED) fail(Exit::data, path, ": cannot be mapped: ", std::strerror(errno));
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (data_) munmap(data_, size_);
  }

  Bytes bytes() const { return {static_cast<const std::uint8_t*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found = {};
  const int code = glob(pattern.c_str(), GLOB_TILDE | GLOB_BRACE, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (code ? 0 : found.gl_pathc));
  globfree(&found);
  if (paths.empty()) {
    fail(Exit::data, "tar:", pattern, ": no file matches; quote the pattern and check the folder");
  }
  return paths;
}

/// Where a sample lies; its label is in Records::labels.
struct Place {
  std::uint64_t offset, size;
  std::uint32_t file;
  std::string key;
};

struct Tars {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<Place> places;
};

}  // namespace

std::vector<TarMember> tar_members(Bytes archive, const std::string& path) {
  return Reader(archive, path).read();
}

std::vector<TarSample> tar_samples(Bytes archive, const std::string& path) {
  std::vector<TarSample> samples;
  std::unordered_map<std::string, std::size_t> images;
  std::map<std::string, std::int32_t> labels;
  for (const TarMember& member : tar_members(archive, path)) {
    const std::size_t slash = member.name.rfind('/') + 1;  // 0 where there is none
    const std::size_t dot = member.name.find('.', slash);
    if (dot == std::string::npos) continue;
    const std::string key = member.name.substr(0, dot), ending = member.name.substr(dot + 1);
    bool fresh = true;
    if (ending == "jpg" || ending == "jpeg") {
      fresh = images.emplace(key, samples.size()).second;
      samples.push_back({key, member.offset, member.size, 0});
    } else if (ending == "cls") {
      const auto digits = as_text(archive.subspan(member.offset, member.size));
      fresh = labels.emplace(key, parse_label(digits, path + ": " + key)).second;
    }
    if (!fresh) fail(Exit::data, path, ": ", member.name, ": this key comes twice");
  }
  for (TarSample& sample : samples) {
    const auto label = labels.find(sample.key);
    if (label == labels.end()) fail(Exit::data, path, ": ", sample.key, ".cls is missing");
    sample.label = label->second;
  }
  for (const auto& [key, label] : labels) {
    if (!images.contains(key)) fail(Exit::data, path, ": ", key, ".cls has no ", key, ".jpg");
  }
  return samples;
}

Records open_tars(const std::string& pattern) {
  const auto tars = std::make_shared<Tars>();
  Records records;
  records.spec = "tar:" + pattern;
  for (const std::string& path : matches(pattern)) {
    const auto& file = tars->files.emplace_back(std::make_unique<MappedFile>(path));
    const auto index = static_cast<std::uint32_t>(tars->files.size() - 1);
    for (TarSample& sample : tar_samples(file->bytes(), path)) {
      tars->places.push_back({sample.offset, sample.size, index, std::move(sample.key)});
      records.labels.push_back(sample.label);
    }
  }
  if (records.labels.empty()) {
    fail(Exit::data, "tar:", pattern, ": no KEY.jpg with KEY.cls in ", tars->files.size(),
         " file(s)");
  }
  records.content = [tars](std::int64_t i, Records::Scratch&) {
    const Place& place = tars->places[static_cast<std::size_t>(i)];
    return Content{tars->files[place.file]->bytes().subspan(place.offset, place.size)};
  };
  records.name = [tars](std::int64_t i) {
    const Place& place = tars->places[static_cast<std::size_t>(i)];
    return tars->files[place.file]->path() + ": " + place.key;
  };
  return records;
}

}  // namespace tunas::data
