#include "data/pack.h"

#include <bit>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "data/decode.h"
#include "engine/crc32c.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

static_assert(std::endian::native == std::endian::little, "tables are stored as they lie");

constexpr char kMagic[8] = {'T', 'U', 'N', 'A', 'S', 'P', 'C', 'K'};
constexpr std::uint32_t kVersion = 1;

struct Head {
  char magic[8];
  std::uint32_t version, payload;
};
static_assert(sizeof(Head) == 16);

struct Tail {
  std::uint64_t count, end, key_bytes, provenance_bytes, zero;
  std::uint32_t tables_crc, payload, version;
  char magic[8];
  std::uint32_t crc;
};
static_assert(sizeof(Tail) == 64);

std::uint64_t aligned(std::uint64_t at) { return (at + 7) / 8 * 8; }

ByteSpan as_bytes(const void* data, std::size_t bytes) {
  return {static_cast<const std::uint8_t*>(data), bytes};
}

/// Checks one pack from the outside in.
class Parser {
 public:
  Parser(ByteSpan bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  Pack parse() {
    Head head;
    if (bytes_.size() >= sizeof head) std::memcpy(&head, bytes_.data(), sizeof head);
    if (bytes_.size() < sizeof head || std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) {
      refuse("not a pack; tunas data pack makes one");
    }
    if (head.version != kVersion) refuse("a pack of another version; make it again");
    Tail tail;
    if (bytes_.size() < sizeof head + sizeof tail) refuse(kCut);
    std::memcpy(&tail, bytes_.data() + bytes_.size() - sizeof tail, sizeof tail);
    if (std::memcmp(tail.magic, kMagic, sizeof kMagic) != 0) refuse(kCut);
    if (engine::crc32c(as_bytes(&tail, sizeof tail - 4)) != tail.crc || tail.version != kVersion ||
        tail.payload != head.payload || head.payload > 1) {
      refuse("its last bytes are damaged; make or fetch it again");
    }
    Pack pack = tables(tail);
    for (std::size_t i = 0; i < pack.count; ++i) check_entry(pack, i);
    if (pack.count == 0 || pack.entry(pack.count - 1).end != tail.end ||
        pack.entry(pack.count - 1).key_end != pack.keys.size()) {
      refuse("its tables contradict each other; make it again");
    }
    return pack;
  }

 private:
  static constexpr const char* kCut = "the end of the pack is missing: the file is truncated";

  [[noreturn]] void refuse(const char* reason) const { fail(Exit::data, path_, ": ", reason); }

  Pack tables(const Tail& tail) const {
    const std::uint64_t inner = bytes_.size() - sizeof(Tail);
    const auto impossible = [&] { refuse("its size is not what its last bytes promise"); };
    if (tail.end < sizeof(Head) || tail.end > inner || aligned(tail.end) > inner) impossible();
    std::uint64_t room = inner - aligned(tail.end);
    if (tail.count > room / sizeof(PackEntry)) impossible();
    room -= tail.count * sizeof(PackEntry);
    if (tail.key_bytes > room || tail.provenance_bytes != room - tail.key_bytes) impossible();

    Pack pack;
    pack.payload = static_cast<Payload>(tail.payload);
    pack.count = static_cast<std::size_t>(tail.count);
    pack.bytes = bytes_;
    const ByteSpan all = bytes_.subspan(aligned(tail.end), inner - aligned(tail.end));
    if (engine::crc32c(all) != tail.tables_crc) {
      refuse("the checksum of its tables does not hold; make or fetch it again");
    }
    pack.entries = all.first(pack.count * sizeof(PackEntry));
    const auto* text = reinterpret_cast<const char*>(all.data()) + pack.entries.size();
    pack.keys = {text, static_cast<std::size_t>(tail.key_bytes)};
    pack.provenance = {text + tail.key_bytes, static_cast<std::size_t>(tail.provenance_bytes)};
    if (!nlohmann::json::accept(pack.provenance)) refuse("its JSON cannot be read; make it again");
    return pack;
  }

  void check_entry(const Pack& pack, std::size_t i) const {
    const PackEntry entry = pack.entry(i);
    const std::uint64_t begin = pack.begin(i);
    const std::uint64_t key_begin = i == 0 ? 0 : pack.entry(i - 1).key_end;
    const std::uint64_t pixels = std::uint64_t{entry.h} * entry.w;
    const bool ends = entry.end >= begin && entry.end <= bytes_.size() &&
                      entry.key_end >= key_begin && entry.key_end <= pack.keys.size();
    const bool size = entry.h > 0 && entry.w > 0 && pixels <= kMaxPixels;
    const bool whole = pack.payload == Payload::encoded || entry.end - begin == 3 * pixels;
    const bool label = entry.label >= 0 && entry.label < kMaxClasses;
    if (ends && size && whole && label) return;
    fail(Exit::data, path_, ": record ", i, " has ",
         !ends    ? "an impossible place"
         : !label ? "an impossible label"
                  : "an impossible size",
         "; make the pack again");
  }

  ByteSpan bytes_;
  const std::string& path_;
};

void check_payload(const Pack& pack, std::size_t i) {
  if (engine::crc32c(pack.stored(i)) != pack.entry(i).crc) {
    fail(Exit::data, "the record's checksum does not hold; make or fetch the pack again");
  }
}

}  // namespace

PackEntry Pack::entry(std::size_t i) const {
  PackEntry entry;
  std::memcpy(&entry, entries.data() + i * sizeof entry, sizeof entry);
  return entry;
}

std::uint64_t Pack::begin(std::size_t i) const { return i == 0 ? sizeof(Head) : entry(i - 1).end; }

ByteSpan Pack::stored(std::size_t i) const {
  const std::uint64_t first = begin(i);
  return bytes.subspan(first, entry(i).end - first);
}

std::string_view Pack::key(std::size_t i) const {
  const std::uint64_t first = i == 0 ? 0 : entry(i - 1).key_end;
  return keys.substr(first, entry(i).key_end - first);
}

Pack parse_pack(ByteSpan bytes, const std::string& path) { return Parser(bytes, path).parse(); }

Records open_pack(const std::string& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  const Pack pack = parse_pack(file->bytes(), path);
  Records records;
  records.spec = "pack:" + path;
  for (std::size_t i = 0; i < pack.count; ++i) records.labels.push_back(pack.entry(i).label);
  // The file goes along with the views of its bytes.
  records.content = [file, pack](std::int64_t index, Records::Scratch&) {
    const auto i = static_cast<std::size_t>(index);
    const ByteSpan stored = pack.stored(i);
    if (pack.payload == Payload::encoded) {
      check_payload(pack, i);
      return Content{stored};
    }
    const PackEntry entry = pack.entry(i);
    return Content{stored, static_cast<int>(entry.h), static_cast<int>(entry.w), 3};
  };
  records.place = [file, pack](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    return Place{file->path(), std::string(pack.key(i)), static_cast<std::int64_t>(pack.begin(i))};
  };
  if (pack.payload == Payload::pixels) {
    records.verify = [file, pack](std::int64_t i) {
      check_payload(pack, static_cast<std::size_t>(i));
    };
  }
  return records;
}

PackWriter::PackWriter(std::string path, Payload payload)
    : file_(std::move(path)), payload_(payload) {
  Head head = {{}, kVersion, static_cast<std::uint32_t>(payload)};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  write(&head, sizeof head);
}

void PackWriter::write(const void* data, std::size_t bytes) {
  file_.write(data, bytes);
  end_ += bytes;
}

void PackWriter::add(const Record& record) {
  write(record.bytes.data(), record.bytes.size());
  keys_ += record.key;
  entries_.push_back({end_, keys_.size(), record.label, static_cast<std::uint32_t>(record.size.h),
                      static_cast<std::uint32_t>(record.size.w), engine::crc32c(record.bytes)});
}

void PackWriter::commit(const std::string& provenance) {
  Tail tail = {entries_.size(),
               end_,
               keys_.size(),
               provenance.size(),
               0,
               0,
               static_cast<std::uint32_t>(payload_),
               kVersion,
               {},
               0};
  const char zeros[8] = {};
  write(zeros, aligned(end_) - end_);
  std::uint32_t crc = 0;
  const auto put = [&](const void* data, std::size_t bytes) {
    crc = engine::crc32c(as_bytes(data, bytes), crc);
    write(data, bytes);
  };
  put(entries_.data(), entries_.size() * sizeof(PackEntry));
  put(keys_.data(), keys_.size());
  put(provenance.data(), provenance.size());
  tail.tables_crc = crc;
  std::memcpy(tail.magic, kMagic, sizeof kMagic);
  tail.crc = engine::crc32c(as_bytes(&tail, sizeof tail - 4));
  write(&tail, sizeof tail);
  file_.commit();
}

}  // namespace tunas::data
