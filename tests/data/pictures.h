// For the tests of decoding: whole pictures by plain libjpeg, cuts of them, regions by Decoder.
#pragma once

#include <span>

#include "data/decode.h"
#include "kernels/philox.h"
#include "tests/data/samples.h"

namespace tunas::data::testing {

struct Picture {
  Size size;
  Bytes pixels;  // [h][w][channels]
};

/// All of a JPEG by the shortest use of libjpeg, in the colour space given.
inline Picture decode_plainly(std::span<const std::uint8_t> jpeg, J_COLOR_SPACE space, int by = 1) {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  errors.emit_message = [](j_common_ptr, int) {};
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, jpeg.data(), jpeg.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = space;
  info.scale_denom = static_cast<unsigned>(by);
  jpeg_start_decompress(&info);
  const std::size_t stride = static_cast<std::size_t>(info.output_components) * info.output_width;
  Picture picture = {{static_cast<int>(info.output_height), static_cast<int>(info.output_width)},
                     Bytes(stride * info.output_height)};
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = picture.pixels.data() + stride * info.output_scanline;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_destroy_decompress(&info);
  return picture;
}

inline Bytes cut(const Picture& picture, const Region& region) {
  Bytes out;
  for (int y = region.y; y < region.y + region.h; ++y) {
    const auto first = picture.pixels.begin() + 3L * (y * picture.size.w + region.x);
    out.insert(out.end(), first, first + 3L * region.w);
  }
  return out;
}

inline Bytes decode(Decoder& decoder, const Content& content, const Region& region) {
  decoder.open(content);
  Bytes rgb(3UL * region.h * region.w);
  decoder.read(region, rgb.data());
  return rgb;
}

inline Region random_region(Size size, std::uint64_t index) {
  const Random4 r = philox({5, Purpose::test, 0, 0}, index);
  Region region;
  region.h = 1 + static_cast<int>(r.v[0] % size.h);
  region.w = 1 + static_cast<int>(r.v[1] % size.w);
  region.y = static_cast<int>(r.v[2] % (size.h - region.h + 1));
  region.x = static_cast<int>(r.v[3] % (size.w - region.w + 1));
  return region;
}

}  // namespace tunas::data::testing
