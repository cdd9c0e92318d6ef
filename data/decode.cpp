#include "data/decode.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

// After <cstdio>, which it needs, and before jerror.h, whose numbers depend on it.
#include <jpeglib.h>

#include <jerror.h>

#include "kernels/error.h"

namespace tunas::data {

/// libjpeg's state. Its errors jump back into guarded(), over C frames and over functions here
/// whose locals need no destructor.
struct Decoder::Jpeg {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  jpeg_progress_mgr progress = {};
  std::jmp_buf jump;
  char reason[JMSG_LENGTH_MAX] = "";
  std::vector<JSAMPLE> row;
  Region region;
  JDIMENSION first_column = 0;  // of what is decoded
  std::uint8_t* out = nullptr;

  Jpeg();
  ~Jpeg() { jpeg_destroy_decompress(&info); }

  void guarded(void (*body)(Jpeg&, const Content&), const Content& content);
  static void create(Jpeg& jpeg, const Content&);
  static void read_header(Jpeg& jpeg, const Content& content);
  static void start(Jpeg& jpeg, const Content&);
  static void read_rows(Jpeg& jpeg, const Content&);
};

namespace {

/// These warnings stand for pixels that were made up.
bool is_loss(int code) {
  return code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_JPEG_EOF ||
         code == JWRN_MUST_RESYNC || code == JWRN_ARITH_BAD_CODE;
}

void emit_message(j_common_ptr info, int level) {
  if (level < 0 && is_loss(info->err->msg_code)) info->err->error_exit(info);
}

void monitor_scans(j_common_ptr info) {
  auto* jpeg = reinterpret_cast<j_decompress_ptr>(info);
  if (jpeg->input_scan_number > kMaxScans) ERREXIT(jpeg, JERR_BAD_PROGRESSION);
}

std::uint8_t product(unsigned a, unsigned b) { return static_cast<std::uint8_t>(a * b / 255); }

/// Columns of a decoded row to RGB. Adobe writes CMYK inverted: 255 is no ink.
void put_row(const JSAMPLE* row, const jpeg_decompress_struct& info, int w, std::uint8_t* rgb) {
  if (info.out_color_space == JCS_RGB) {
    std::memcpy(rgb, row, 3 * static_cast<std::size_t>(w));
    return;
  }
  const unsigned invert = info.saw_Adobe_marker ? 0 : 255;
  for (int x = 0; x < w; ++x, row += 4, rgb += 3) {
    const unsigned k = row[3] ^ invert;
    for (int c = 0; c < 3; ++c) rgb[c] = product(row[c] ^ invert, k);
  }
}

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

}  // namespace

// ---- libjpeg, each step under guarded()

Decoder::Jpeg::Jpeg() {
  info.err = jpeg_std_error(&errors);
  info.client_data = this;
  errors.error_exit = [](j_common_ptr common) {
    auto* jpeg = static_cast<Jpeg*>(common->client_data);
    common->err->format_message(common, jpeg->reason);
    std::longjmp(jpeg->jump, 1);
  };
  errors.emit_message = emit_message;
  progress.progress_monitor = monitor_scans;
  guarded(create, {});
  info.progress = &progress;
}

void Decoder::Jpeg::guarded(void (*body)(Jpeg&, const Content&), const Content& content) {
  if (setjmp(jump) == 0) {
    body(*this, content);
    return;
  }
  jpeg_abort_decompress(&info);
  fail(Exit::data, reason);
}

void Decoder::Jpeg::create(Jpeg& jpeg, const Content&) {
  void* const owner = jpeg.info.client_data;
  jpeg_create_decompress(&jpeg.info);
  jpeg.info.client_data = owner;
}

void Decoder::Jpeg::read_header(Jpeg& jpeg, const Content& content) {
  jpeg_decompress_struct& info = jpeg.info;
  jpeg_abort_decompress(&info);  // what an earlier image left
  jpeg_mem_src(&info, content.bytes.data(), content.bytes.size());
  jpeg_read_header(&info, TRUE);
  const bool ink = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = ink ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  info.do_fancy_upsampling = TRUE;
}

/// Narrows decoding to the region's columns and skips the rows above it.
void Decoder::Jpeg::start(Jpeg& jpeg, const Content&) {
  jpeg_decompress_struct& info = jpeg.info;
  const Region& region = jpeg.region;
  jpeg_start_decompress(&info);
  const int margin_x = info.max_h_samp_factor * DCTSIZE,
            margin_y = info.max_v_samp_factor * DCTSIZE;
  const int left = std::max(0, region.x - margin_x), top = std::max(0, region.y - margin_y);
  const int right = std::min(static_cast<int>(info.image_width), region.x + region.w + margin_x);
  jpeg.first_column = static_cast<JDIMENSION>(left);
  JDIMENSION width = static_cast<JDIMENSION>(right - left);
  if (width < info.image_width) jpeg_crop_scanline(&info, &jpeg.first_column, &width);
  if (top > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(top));
}

void Decoder::Jpeg::read_rows(Jpeg& jpeg, const Content& content) {
  start(jpeg, content);
  jpeg_decompress_struct& info = jpeg.info;
  const Region& region = jpeg.region;
  const int end = region.y + region.h;
  const JDIMENSION column = static_cast<JDIMENSION>(region.x) - jpeg.first_column;
  JSAMPROW row = jpeg.row.data();
  std::uint8_t* out = jpeg.out;
  while (static_cast<int>(info.output_scanline) < end) {
    const int y = static_cast<int>(info.output_scanline);
    if (jpeg_read_scanlines(&info, &row, 1) != 1) ERREXIT(&info, JERR_INPUT_EOF);
    if (y < region.y) continue;
    put_row(row + column * static_cast<JDIMENSION>(info.output_components), info, region.w, out);
    out += 3L * region.w;
  }
  jpeg_abort_decompress(&info);
}

// ---- Decoder

Decoder::Decoder() : jpeg_(std::make_unique<Jpeg>()) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Size Decoder::open(const Content& content) {
  content_ = content;
  if (content.channels) {
    size_ = {content.h, content.w};
    return size_;
  }
  jpeg_->guarded(Jpeg::read_header, content);
  const jpeg_decompress_struct& info = jpeg_->info;
  const auto pixels = static_cast<std::int64_t>(info.image_width) * info.image_height;
  if (pixels > kMaxPixels) {
    fail(Exit::data, info.image_width, "x", info.image_height, " pixels are more than the ",
         kMaxPixels, " allowed");
  }
  size_ = {static_cast<int>(info.image_height), static_cast<int>(info.image_width)};
  jpeg_->row.resize(4UL * info.image_width);
  return size_;
}

void Decoder::read(const Region& region, std::uint8_t* rgb) {
  require(region.y >= 0 && region.x >= 0 && region.h > 0 && region.w > 0 &&
              region.y + region.h <= size_.h && region.x + region.w <= size_.w,
          "region ", region.h, "x", region.w, " at ", region.y, ",", region.x, " of a ", size_.h,
          "x", size_.w, " image");
  if (content_.channels) {
    copy_region(content_, region, rgb);
    return;
  }
  jpeg_->region = region;
  jpeg_->out = rgb;
  jpeg_->guarded(Jpeg::read_rows, content_);
}

}  // namespace tunas::data
