#include "data/png.h"

#include <png.h>
#include <zlib.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "data/decode.h"
#include "kernels/error.h"

namespace tunas::data {

/// libpng's state, made anew for each image. Errors jump as in jpeg.cpp.
struct Png::State {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::jmp_buf jump;
  char reason[160] = "";
  std::span<const std::uint8_t> bytes;
  std::size_t at = 0;  // of what libpng has taken
  Size size;
  std::vector<std::uint8_t> rows;  // one, or all of an interlaced image
  Region region;
  std::uint8_t* out = nullptr;

  ~State() { close(); }
  void close() { png_destroy_read_struct(&png, &info, nullptr); }
  void guarded(void (*body)(State&));

  static void read_header(State& state);
  static void read_rows(State& state);
  static void read_interlaced(State& state);
  static void check_sum(State& state);
};

namespace {

void put_row(const std::uint8_t* row, const Region& region, std::uint8_t* rgb) {
  std::memcpy(rgb, row + 3L * region.x, 3 * static_cast<std::size_t>(region.w));
}

std::size_t big_endian(const std::uint8_t* p) {
  return std::size_t{p[0]} << 24 | std::size_t{p[1]} << 16 | std::size_t{p[2]} << 8 | p[3];
}

}  // namespace

void Png::State::guarded(void (*body)(State&)) {
  if (setjmp(jump) == 0) {
    body(*this);
    return;
  }
  close();
  fail(Exit::data, reason);
}

void Png::State::read_header(State& state) {
  constexpr png_uint_32 kMaxSide = 1'000'000;
  constexpr std::size_t kMaxChunk = std::size_t{1} << 20;  // of a kind that is unpacked
  state.png = png_create_read_struct(
      PNG_LIBPNG_VER_STRING, &state,
      [](png_structp png, png_const_charp reason) {
        auto* self = static_cast<State*>(png_get_error_ptr(png));
        std::snprintf(self->reason, sizeof self->reason, "%s", reason);
        std::longjmp(self->jump, 1);
      },
      [](png_structp, png_const_charp) {});
  state.info = state.png ? png_create_info_struct(state.png) : nullptr;
  if (!state.info) {
    std::snprintf(state.reason, sizeof state.reason, "there is no memory to decode it");
    std::longjmp(state.jump, 1);
  }
  png_set_read_fn(state.png, &state, [](png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<State*>(png_get_io_ptr(png));
    if (count > self->bytes.size() - self->at) {
      self->at = self->bytes.size();
      png_error(png, "the file is truncated");
    }
    std::memcpy(to, self->bytes.data() + self->at, count);
    self->at += count;
  });
  png_set_user_limits(state.png, kMaxSide, kMaxSide);
  png_set_chunk_malloc_max(state.png, kMaxChunk);
  png_set_keep_unknown_chunks(state.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // profiles, texts
  png_read_info(state.png, state.info);
  state.size = {static_cast<int>(png_get_image_height(state.png, state.info)),
                static_cast<int>(png_get_image_width(state.png, state.info))};
}

/// Reads up to the region's last row, as 8-bit RGB.
void Png::State::read_rows(State& state) {
  png_structp png = state.png;
  png_set_strip_16(png);
  png_set_expand(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  const bool interlaced = png_set_interlace_handling(png) > 1;
  png_read_update_info(png, state.info);
  if (png_get_rowbytes(png, state.info) != 3 * static_cast<std::size_t>(state.size.w)) {
    png_error(png, "its kind of pixels is not known");
  }
  if (interlaced) {
    read_interlaced(state);
    return;
  }
  const Region& region = state.region;
  std::uint8_t* out = state.out;
  for (int y = 0; y < region.y + region.h; ++y) {
    png_read_row(png, state.rows.data(), nullptr);
    if (y < region.y) continue;
    put_row(state.rows.data(), region, out);
    out += 3L * region.w;
  }
  check_sum(state);
}

/// Every pass adds pixels to all rows; only together they are the image.
void Png::State::read_interlaced(State& state) {
  constexpr int kPasses = 7;
  const long stride = 3L * state.size.w;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int y = 0; y < state.size.h; ++y) {
      png_read_row(state.png, state.rows.data() + y * stride, nullptr);
    }
  }
  const Region& region = state.region;
  for (int y = 0; y < region.h; ++y) {
    put_row(state.rows.data() + (region.y + y) * stride, region, state.out + 3L * y * region.w);
  }
}

/// Of the chunk in which libpng stopped reading.
void Png::State::check_sum(State& state) {
  constexpr std::size_t kAround = 12;  // length and kind before the data, sum behind it
  const std::span<const std::uint8_t> bytes = state.bytes;
  for (std::size_t begin = 8; begin + kAround <= bytes.size();) {
    const std::size_t size = big_endian(bytes.data() + begin);
    if (size > bytes.size() - begin - kAround) return;
    const std::size_t end = begin + kAround + size;
    if (state.at <= end) {
      const unsigned long sum = crc32(0, bytes.data() + begin + 4, static_cast<unsigned>(size) + 4);
      if (sum != big_endian(bytes.data() + end - 4)) png_error(state.png, "IDAT: CRC error");
      return;
    }
    begin = end;
  }
}

Png::Png() : state_(std::make_unique<State>()) {}
Png::~Png() = default;

Size Png::open(std::span<const std::uint8_t> bytes) {
  State& state = *state_;
  state.close();
  state.bytes = bytes;
  state.at = 0;
  state.guarded(State::read_header);
  const auto h = static_cast<std::size_t>(state.size.h), w = static_cast<std::size_t>(state.size.w);
  check_pixels(state.size.h, state.size.w);
  const bool whole = png_get_interlace_type(state.png, state.info) != PNG_INTERLACE_NONE;
  if (whole && 3 * h * w > kMaxDecodeMemory) {
    fail(Exit::data, "an interlaced PNG of ", w, "x", h, " pixels needs more than the ",
         kMaxDecodeMemory >> 20, " MiB of memory that decoding may take; store it without");
  }
  return state.size;
}

void Png::read(const Region& region, std::uint8_t* rgb) {
  State& state = *state_;
  state.region = region;
  state.out = rgb;
  const bool whole = png_get_interlace_type(state.png, state.info) != PNG_INTERLACE_NONE;
  const auto rows = static_cast<std::size_t>(whole ? state.size.h : 1);
  state.rows.resize(3 * rows * static_cast<std::size_t>(state.size.w));
  state.guarded(State::read_rows);
}

std::int64_t Png::stopped_at() const { return static_cast<std::int64_t>(state_->at); }

}  // namespace tunas::data
