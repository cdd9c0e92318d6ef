#include "data/decode.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "data/jpeg.h"
#include "data/png.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

void copy_region(const Content& content, const Region& region, std::uint8_t* rgb) {
  for (int y = region.y; y < region.y + region.h; ++y) {
    const long first = (static_cast<long>(y) * content.w + region.x) * content.channels;
    const std::uint8_t* row = content.bytes.data() + first;
    if (content.channels == 3) {
      std::memcpy(rgb, row, 3 * static_cast<std::size_t>(region.w));
      rgb += 3L * region.w;
    } else {
      for (int x = 0; x < region.w; ++x, rgb += 3) std::fill_n(rgb, 3, row[x]);
    }
  }
}

/// The usual mistakes by their first bytes; null where it is none of them.
const char* name_of(std::string_view head) {
  if (head.starts_with("GIF8")) return "a GIF";
  if (head.starts_with("RIFF") && head.substr(8).starts_with("WEBP")) return "a WebP image";
  if (head.starts_with("BM")) return "a BMP image";
  if (head.starts_with("II*") || head.starts_with(std::string_view("MM\0*", 4))) return "a TIFF";
  if (head.substr(4).starts_with("ftyp")) return "a HEIF, AVIF or video file";
  if (head.starts_with("<")) return "text, perhaps a page that says why there is no image";
  return nullptr;
}

[[noreturn]] void refuse(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) fail(Exit::data, "it is empty");
  std::string head(bytes.begin(), bytes.begin() + std::min<long>(16, std::ssize(bytes)));
  const char* name = head.size() > 8 ? name_of(head) : nullptr;
  if (name) fail(Exit::data, "it is ", name, "; JPEG and PNG are read");
  char begins[16];
  std::snprintf(begins, sizeof begins, "%02X %02X %02X %02X", bytes[0],
                bytes.size() > 1 ? bytes[1] : 0u, bytes.size() > 2 ? bytes[2] : 0u,
                bytes.size() > 3 ? bytes[3] : 0u);
  fail(Exit::data, "it is neither JPEG nor PNG: it begins with ", begins);
}

}  // namespace

void check_pixels(std::int64_t h, std::int64_t w) {
  if (w * h > kMaxPixels) {
    fail(Exit::data, w, "x", h, " pixels are more than the ", kMaxPixels, " allowed");
  }
}

Region reduced(const Region& region, Size image, Reduction reduction) {
  const int by = reduction.by, h = (image.h + by - 1) / by, w = (image.w + by - 1) / by;
  const auto rounded = [by](int pixels) { return (pixels + by / 2) / by; };
  Region small;
  small.y = std::min(rounded(region.y), h - 1);
  small.x = std::min(rounded(region.x), w - 1);
  small.h = std::clamp(rounded(region.y + region.h) - small.y, 1, h - small.y);
  small.w = std::clamp(rounded(region.x + region.w) - small.x, 1, w - small.x);
  return small;
}

Decoder::Decoder() : jpeg_(std::make_unique<Jpeg>()), png_(std::make_unique<Png>()) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Decoder::Format Decoder::format_of(const Content& content) {
  constexpr std::uint8_t kJpeg[] = {0xFF, 0xD8};
  constexpr std::uint8_t kPng[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  const auto begins = [&](std::span<const std::uint8_t> magic) {
    return content.bytes.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), content.bytes.begin());
  };
  if (content.channels) return Format::pixels;
  return begins(kJpeg) ? Format::jpeg : begins(kPng) ? Format::png : Format::unknown;
}

Size Decoder::open(const Content& content) {
  content_ = content;
  format_ = format_of(content);
  size_ = {};
  switch (format_) {
    case Format::pixels:
      size_ = {content.h, content.w};
      break;
    case Format::jpeg:
      size_ = jpeg_->open(content.bytes);
      break;
    case Format::png:
      size_ = png_->open(content.bytes);
      break;
    case Format::unknown:
      refuse(content.bytes);
  }
  return size_;
}

Reduction Decoder::reduction(const Region& region, int resolution) const {
  Reduction reduction;
  if (format_ != Format::jpeg || resolution <= 0) return reduction;
  const long most = std::min(region.h, region.w);
  while (reduction.by < 8 && most >= 4L * reduction.by * resolution) reduction.by *= 2;
  return reduction;
}

void Decoder::read(const Region& region, std::uint8_t* rgb, Reduction reduction) {
  const int by = reduction.by;
  require(by == 1 || (format_ == Format::jpeg && (by == 2 || by == 4 || by == 8)),
          "an image cannot be decoded to 1/", by, " of its size");
  const Size size = {(size_.h + by - 1) / by, (size_.w + by - 1) / by};
  require(region.y >= 0 && region.x >= 0 && region.h > 0 && region.w > 0 &&
              region.h <= size.h - region.y && region.w <= size.w - region.x,
          "region ", region.h, "x", region.w, " at ", region.y, ",", region.x, " of a ", size.h,
          "x", size.w, " image");
  if (format_ == Format::pixels) copy_region(content_, region, rgb);
  if (format_ == Format::jpeg) jpeg_->read(region, by, rgb);
  if (format_ == Format::png) png_->read(region, rgb);
}

std::int64_t Decoder::stopped_at() const {
  if (format_ == Format::jpeg) return jpeg_->stopped_at();
  return format_ == Format::png ? png_->stopped_at() : 0;
}

}  // namespace tunas::data
