#include "data/index.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "data/records.h"
#include "engine/crc32c.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "arrays are stored as they lie");

constexpr char kMagic[8] = {'T', 'U', 'N', 'A', 'S', 'I', 'D', 'X'};
constexpr std::uint32_t kVersion = 1;

struct Head {
  char magic[8];
  std::uint32_t version, format, head, nanoseconds;
  std::int64_t seconds;
  std::uint64_t size, count, key_bytes;
};
static_assert(sizeof(Head) == 56 && std::is_trivially_copyable_v<Head>);

constexpr std::size_t kSampleBytes = 3 * 8 + 4;

template <class T>
void put(std::vector<std::uint8_t>& bytes, const T* values, std::size_t count) {
  if (count == 0) return;
  bytes.resize(bytes.size() + count * sizeof(T));
  std::memcpy(bytes.data() + bytes.size() - count * sizeof(T), values, count * sizeof(T));
}

/// The next `count` values, of which there are enough.
template <class T>
std::vector<T> take(ByteSpan& bytes, std::size_t count) {
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  bytes = bytes.subspan(count * sizeof(T));
  return values;
}

/// Whether the numbers make sense for an archive of `size` bytes.
bool sound(const Index& index, const std::vector<std::uint64_t>& key_ends, std::uint64_t key_bytes,
           std::uint64_t size) {
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index.offsets[i] > size || index.sizes[i] > size - index.offsets[i]) return false;
    if (key_ends[i] < end || key_ends[i] > key_bytes) return false;
    if (index.labels[i] < 0 || index.labels[i] >= kMaxClasses) return false;
    end = key_ends[i];
  }
  return end == key_bytes;
}

std::uint64_t hash(const std::string& text) {  // FNV-1a, to tell files of one name apart
  std::uint64_t value = 0xCBF29CE484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return value;
}

}  // namespace

void Index::add(std::string_view key, std::uint64_t offset, std::uint64_t size,
                std::int32_t label) {
  keys.add(key);
  offsets.push_back(offset);
  sizes.push_back(size);
  labels.push_back(label);
}

Fingerprint fingerprint(const MappedFile& file) {
  constexpr std::size_t kHead = 4096;
  const ByteSpan bytes = file.bytes();
  return {bytes.size(), file.changed().tv_sec, static_cast<std::uint32_t>(file.changed().tv_nsec),
          engine::crc32c(bytes.first(std::min(bytes.size(), kHead)))};
}

std::vector<std::uint8_t> index_bytes(const StoredIndex& stored) {
  const Index& index = stored.index;
  Head head = {{},
               kVersion,
               stored.format,
               stored.of.head,
               stored.of.nanoseconds,
               stored.of.seconds,
               stored.of.size,
               index.size(),
               index.keys.text().size()};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  std::vector<std::uint8_t> bytes;
  bytes.reserve(sizeof head + index.size() * kSampleBytes + head.key_bytes + 4);
  put(bytes, &head, 1);
  put(bytes, index.offsets.data(), index.size());
  put(bytes, index.sizes.data(), index.size());
  put(bytes, index.keys.ends().data(), index.size());
  put(bytes, index.labels.data(), index.size());
  put(bytes, index.keys.text().data(), head.key_bytes);
  const std::uint32_t crc = engine::crc32c(bytes);
  put(bytes, &crc, 1);
  return bytes;
}

StoredIndex parse_index(ByteSpan bytes, const std::string& path) {
  const auto refuse = [&](const char* reason) {
    fail(Exit::data, path, ": ", reason, "; remove it, it is made again");
  };
  Head head;
  if (bytes.size() < sizeof head + 4) refuse("too short for an index");
  std::memcpy(&head, bytes.data(), sizeof head);
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) refuse("not an index");
  if (head.version != kVersion) refuse("an index of another version");
  const std::uint64_t room = bytes.size() - sizeof head - 4;
  if (head.count > room / kSampleBytes || head.key_bytes != room - head.count * kSampleBytes) {
    refuse("its size is not what its header promises");
  }
  std::uint32_t crc = 0;
  std::memcpy(&crc, bytes.data() + bytes.size() - 4, 4);
  if (engine::crc32c(bytes.first(bytes.size() - 4)) != crc) refuse("its checksum does not hold");

  StoredIndex stored;
  stored.format = head.format;
  stored.of = {head.size, head.seconds, head.nanoseconds, head.head};
  bytes = bytes.subspan(sizeof head);
  const auto count = static_cast<std::size_t>(head.count);
  stored.index.offsets = take<std::uint64_t>(bytes, count);
  stored.index.sizes = take<std::uint64_t>(bytes, count);
  std::vector<std::uint64_t> key_ends = take<std::uint64_t>(bytes, count);
  stored.index.labels = take<std::int32_t>(bytes, count);
  if (!sound(stored.index, key_ends, head.key_bytes, head.size))
    refuse("its numbers make no sense");
  const auto* keys = reinterpret_cast<const char*>(bytes.data());
  stored.index.keys = Names(std::string(keys, head.key_bytes), std::move(key_ends));
  return stored;
}

std::string index_beside(const std::string& archive) { return archive + ".index"; }

std::string index_in_cache(const std::string& archive) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder;
  if (cache && *cache == '/') {
    folder = cache;
  } else if (home && *home) {
    folder = fs::path(home) / ".cache";
  } else {
    return "";
  }
  std::error_code error;
  const fs::path whole = fs::absolute(archive, error);
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016lx", static_cast<unsigned long>(hash(whole.string())));
  return folder / "tunas" / (whole.filename().string() + "-" + digits + ".index");
}

}  // namespace tunas::data
