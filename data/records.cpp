#include "data/records.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>

#include "data/archives.h"
#include "data/cifar.h"
#include "data/folder.h"
#include "data/idx.h"
#include "data/pack.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace tunas::data {

int Records::classes() const {
  return labels.empty() ? 0 : *std::max_element(labels.begin(), labels.end()) + 1;
}

namespace {

void check_index(const Records& records, std::int64_t index) {
  require(index >= 0 && index < records.size(), records.spec, ": there is no record ", index,
          "; it has ", records.size());
}

/// The three numbers of "WxHxN".
bool parse_sizes(const std::string& text, std::int64_t (&sizes)[3]) {
  const char *at = text.data(), *end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    if (i > 0 && (at == end || *at++ != 'x')) return false;
    const auto [next, error] = std::from_chars(at, end, sizes[i]);
    if (error != std::errc() || sizes[i] <= 0) return false;
    at = next;
  }
  return at == end;
}

}  // namespace

std::int32_t Records::label(std::int64_t index) const {
  check_index(*this, index);
  return labels[static_cast<std::size_t>(index)];
}

Content Records::read(std::int64_t index, Scratch& scratch) const {
  check_index(*this, index);
  return content(index, scratch);
}

std::string Records::name(std::int64_t index) const {
  const Place at = place(index);
  return at.file + (at.key.empty() ? "" : ": " + at.key) +
         (at.offset < 0 ? "" : " (at byte " + std::to_string(at.offset) + ")");
}

std::int32_t check_label(std::int64_t label, const std::string& what) {
  if (label < 0 || label >= kMaxClasses) {
    fail(Exit::data, what, ": label ", label, " is not in 0..", kMaxClasses - 1);
  }
  return static_cast<std::int32_t>(label);
}

void check_labels(const Records& records, int classes) {
  for (std::int64_t i = 0; i < records.size(); ++i) {
    const std::int32_t label = records.labels[static_cast<std::size_t>(i)];
    if (label < 0 || label >= classes) {
      fail(Exit::data, records.name(i), ": label ", label, " does not fit a classifier of ",
           classes, " classes; the largest label there is ", records.classes() - 1);
    }
  }
}

Records open_synthetic(const std::string& size) {
  constexpr int kClasses = 10;
  constexpr std::int64_t kMaxSide = 1 << 14, kMaxCount = 1 << 26;
  std::int64_t sizes[3] = {};
  require(parse_sizes(size, sizes) && sizes[0] <= kMaxSide && sizes[1] <= kMaxSide &&
              sizes[2] <= kMaxCount,
          "synthetic:", size, " is not synthetic:WIDTHxHEIGHTxCOUNT with sides up to ", kMaxSide,
          " and at most ", kMaxCount, " images");
  Records records;
  records.spec = "synthetic:" + size;
  for (std::int64_t i = 0; i < sizes[2]; ++i) {
    records.labels.push_back(static_cast<std::int32_t>(i % kClasses));
  }
  const int w = static_cast<int>(sizes[0]), h = static_cast<int>(sizes[1]);
  // An image is a window into one sheet of noise, so that reading it costs nothing.
  constexpr std::size_t kOffsets = 1 << 20;
  const std::size_t bytes = 3UL * static_cast<std::size_t>(h) * static_cast<std::size_t>(w);
  const auto noise = std::make_shared<std::vector<std::uint8_t>>((bytes + kOffsets + 15) / 16 * 16);
  const PhiloxKey key{0, Purpose::test, 0, 0};
  for (std::size_t i = 0; i < noise->size(); i += 16) {
    std::memcpy(noise->data() + i, philox(key, i / 16).v, 16);
  }
  records.content = [noise, bytes, h, w](std::int64_t index, Records::Scratch&) {
    const PhiloxKey place{0, Purpose::test, 1, 0};
    const std::size_t at = philox(place, static_cast<std::uint64_t>(index)).v[0] % kOffsets;
    return Content{std::span(*noise).subspan(at, bytes), h, w, 3};
  };
  records.place = [spec = records.spec](std::int64_t i) { return Place{spec, std::to_string(i)}; };
  return records;
}

Records open_records(const std::string& spec, Split split) {
  const std::size_t colon = spec.find(':');
  const std::string kind = spec.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : spec.substr(colon + 1);
  Records records;
  if (kind == "fashion-mnist") {
    records = open_fashion_mnist(rest.empty() ? kFashionMnist : rest, split);
  } else if (kind == "synthetic") {
    records = open_synthetic(rest);
  } else if (const ArchiveFormat* format = archive_format(kind); format && !rest.empty()) {
    records = open_archives(*format, rest);
  } else if (kind == "folder" && !rest.empty()) {
    records = open_folder(rest);
  } else if (kind == "cifar10" && !rest.empty()) {
    records = open_cifar10(rest, split);
  } else if (kind == "pack" && !rest.empty()) {
    records = open_pack(rest);
  } else {
    fail(Exit::usage, "data \"", spec, "\" is none of ", kSpecs);
  }
  records.spec = spec;
  return records;
}

}  // namespace tunas::data
