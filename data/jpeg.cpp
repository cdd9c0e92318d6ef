#include "data/jpeg.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

// After <cstdio>, which it needs, and before jerror.h, whose numbers depend on it.
#include <jpeglib.h>

#include <jerror.h>

#include "data/decode.h"
#include "kernels/error.h"

namespace tunas::data {

/// libjpeg's state. Its errors jump back into guarded(), over C frames and over functions here
/// whose locals need no destructor.
struct Jpeg::State {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  jpeg_progress_mgr progress = {};
  std::jmp_buf jump;
  char reason[JMSG_LENGTH_MAX] = "";
  std::int64_t stopped_at = 0;
  std::span<const std::uint8_t> bytes;
  std::vector<JSAMPLE> row;
  Region region;
  int reduction = 1;
  JDIMENSION first_column = 0;  // of what is decoded
  std::uint8_t* out = nullptr;

  State();
  ~State() { jpeg_destroy_decompress(&info); }

  void guarded(void (*body)(State&));
  std::int64_t position() const;

  static void read_header(State& state);
  static void start(State& state);
  static void read_rows(State& state);
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

/// The libraries' words, except where they speak of their own insides.
void describe(j_common_ptr info, char* reason) {
  const int code = info->err->msg_code;
  if (code == JERR_NO_BACKING_STORE || code == JERR_OUT_OF_MEMORY) {
    std::snprintf(reason, JMSG_LENGTH_MAX,
                  "its scans need more than the %zu MiB of memory that decoding may take; store it "
                  "as a baseline JPEG",
                  kMaxDecodeMemory >> 20);
  } else if (code == JERR_BAD_PROGRESSION && info->err->msg_parm.i[0] < 0) {
    std::snprintf(reason, JMSG_LENGTH_MAX, "it has more than %d scans", kMaxScans);
  } else {
    info->err->format_message(info, reason);
  }
}

void monitor_scans(j_common_ptr info) {
  auto* jpeg = reinterpret_cast<j_decompress_ptr>(info);
  if (jpeg->input_scan_number > kMaxScans) ERREXIT1(jpeg, JERR_BAD_PROGRESSION, -1);
}

/// True of a progressive image whose scans stop before the last bits of all coefficients: libjpeg
/// then guesses these from the blocks around, as far as it decodes them.
bool is_smoothed(const jpeg_decompress_struct& info) {
  constexpr int kGuessed = 9;  // the lowest frequencies
  if (!info.progressive_mode || !info.coef_bits) return false;
  for (int c = 0; c < info.num_components; ++c) {
    for (int i = 1; i <= kGuessed; ++i) {
      if (info.coef_bits[c][i] != 0) return true;
    }
  }
  return false;
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

}  // namespace

Jpeg::State::State() {
  info.err = jpeg_std_error(&errors);
  info.client_data = this;
  errors.error_exit = [](j_common_ptr common) {
    auto* state = static_cast<State*>(common->client_data);
    describe(common, state->reason);
    const bool ended = common->err->msg_code == JWRN_JPEG_EOF;
    state->stopped_at = ended ? std::ssize(state->bytes) : state->position();
    std::longjmp(state->jump, 1);
  };
  errors.emit_message = emit_message;
  progress.progress_monitor = monitor_scans;
}

/// Where libjpeg will read next; beyond the end it reads an end marker that it made up.
std::int64_t Jpeg::State::position() const {
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (!info.src) return 0;
  const auto at = static_cast<std::int64_t>(info.src->bytes_in_buffer);
  const bool inside = info.src->next_input_byte + at == bytes.data() + size;
  return inside ? size - at : size;
}

void Jpeg::State::guarded(void (*body)(State&)) {
  if (setjmp(jump) == 0) {
    body(*this);
    return;
  }
  jpeg_abort_decompress(&info);
  fail(Exit::data, reason);
}

/// A decompressor keeps the tables of the images before, for files that leave theirs out. So that
/// no image depends on another one, each has a decompressor of its own.
void Jpeg::State::read_header(State& state) {
  jpeg_decompress_struct& info = state.info;
  jpeg_destroy_decompress(&info);
  jpeg_create_decompress(&info);  // keeps err and client_data
  info.progress = &state.progress;
  info.mem->max_memory_to_use = static_cast<long>(kMaxDecodeMemory);
  jpeg_mem_src(&info, state.bytes.data(), state.bytes.size());
  jpeg_read_header(&info, TRUE);
  const bool ink = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = ink ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  info.do_fancy_upsampling = TRUE;
}

/// Narrows decoding to the region's columns and skips the rows above it, where that changes no
/// pixel.
void Jpeg::State::start(State& state) {
  jpeg_decompress_struct& info = state.info;
  const Region& region = state.region;
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned>(state.reduction);
  jpeg_start_decompress(&info);
  state.first_column = 0;
  if (is_smoothed(info)) return;
  const int margin = 2 * info.max_h_samp_factor;
  const int left = std::max(0, region.x - margin);
  const int right = std::min(static_cast<int>(info.output_width), region.x + region.w + margin);
  state.first_column = static_cast<JDIMENSION>(left);
  JDIMENSION width = static_cast<JDIMENSION>(right - left);
  if (width < info.output_width) jpeg_crop_scanline(&info, &state.first_column, &width);
  if (region.y > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(region.y));
}

void Jpeg::State::read_rows(State& state) {
  start(state);
  jpeg_decompress_struct& info = state.info;
  const Region& region = state.region;
  const int end = region.y + region.h;
  const JDIMENSION column = static_cast<JDIMENSION>(region.x) - state.first_column;
  JSAMPROW row = state.row.data();
  std::uint8_t* out = state.out;
  while (static_cast<int>(info.output_scanline) < end) {
    if (jpeg_read_scanlines(&info, &row, 1) != 1) ERREXIT(&info, JERR_INPUT_EOF);
    if (static_cast<int>(info.output_scanline) <= region.y) continue;
    put_row(row + column * static_cast<JDIMENSION>(info.output_components), info, region.w, out);
    out += 3L * region.w;
  }
  jpeg_abort_decompress(&info);
}

Jpeg::Jpeg() : state_(std::make_unique<State>()) {}
Jpeg::~Jpeg() = default;

Size Jpeg::open(std::span<const std::uint8_t> bytes) {
  state_->bytes = bytes;
  state_->guarded(State::read_header);
  const jpeg_decompress_struct& info = state_->info;
  state_->stopped_at = state_->position();
  check_pixels(info.image_height, info.image_width);
  state_->row.resize(4UL * info.image_width);
  return {static_cast<int>(info.image_height), static_cast<int>(info.image_width)};
}

void Jpeg::read(const Region& region, int reduction, std::uint8_t* rgb) {
  state_->region = region;
  state_->reduction = reduction;
  state_->out = rgb;
  state_->guarded(State::read_rows);
}

std::int64_t Jpeg::stopped_at() const { return state_->stopped_at; }

}  // namespace tunas::data
