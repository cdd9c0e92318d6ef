// Made-up JPEGs and PNGs of every kind that the data tests need.
#pragma once

#include <png.h>
#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace tunas::data::testing {

using Bytes = std::vector<std::uint8_t>;

struct JpegKind {
  int h = 48, w = 64;
  J_COLOR_SPACE space = JCS_RGB;       // of the pixels: JCS_GRAYSCALE, JCS_RGB, JCS_CMYK
  J_COLOR_SPACE stored = JCS_UNKNOWN;  // unknown: libjpeg's choice
  int h_samp = 2, v_samp = 2;          // of the first component
  int chroma_h = 1, chroma_v = 1;      // of the others
  bool progressive = false;
  int scans = 0;  // of a progressive one; 0: all
  int restart = 0;
  int seed = 0;  // another picture
  int quality = 90;
};

/// Smooth gradients with some texture, so that neighbouring blocks differ.
inline std::uint8_t texture(int seed, int y, int x, int c) {
  const int wave = (x * (3 + c) + y * (5 - c) + seed * 31) % 256;
  return static_cast<std::uint8_t>((wave + ((x / 3 + y / 5) % 2) * 60) % 256);
}

inline Bytes make_jpeg(const JpegKind& kind) {
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_height = static_cast<JDIMENSION>(kind.h);
  info.image_width = static_cast<JDIMENSION>(kind.w);
  info.in_color_space = kind.space;
  info.input_components = kind.space == JCS_GRAYSCALE ? 1 : kind.space == JCS_CMYK ? 4 : 3;
  jpeg_set_defaults(&info);
  if (kind.stored != JCS_UNKNOWN) jpeg_set_colorspace(&info, kind.stored);
  jpeg_set_quality(&info, kind.quality, TRUE);
  info.restart_interval = static_cast<unsigned>(kind.restart);
  if (info.num_components > 1) {
    info.comp_info[0].h_samp_factor = kind.h_samp;
    info.comp_info[0].v_samp_factor = kind.v_samp;
    for (int c = 1; c < info.num_components; ++c) {
      info.comp_info[c].h_samp_factor = kind.chroma_h;
      info.comp_info[c].v_samp_factor = kind.chroma_v;
    }
  }
  if (kind.progressive) jpeg_simple_progression(&info);
  if (kind.scans > 0) info.num_scans = kind.scans;
  jpeg_start_compress(&info, TRUE);
  Bytes row(static_cast<std::size_t>(kind.w * info.input_components));
  for (int y = 0; y < kind.h; ++y) {
    for (int x = 0; x < kind.w; ++x) {
      for (int c = 0; c < info.input_components; ++c) {
        row[static_cast<std::size_t>(x * info.input_components + c)] = texture(kind.seed, y, x, c);
      }
    }
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&info, &rows, 1);
  }
  jpeg_finish_compress(&info);
  Bytes bytes(memory, memory + size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return bytes;
}

inline void add_chunk(Bytes& png, const std::string& kind, const Bytes& data) {
  const auto put = [&](std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      png.push_back(static_cast<std::uint8_t>(value >> shift));
    }
  };
  put(static_cast<std::uint32_t>(data.size()));
  const auto begin = static_cast<long>(png.size());
  png.insert(png.end(), kind.begin(), kind.end());
  png.insert(png.end(), data.begin(), data.end());
  put(static_cast<std::uint32_t>(
      crc32(0, png.data() + begin, static_cast<unsigned>(data.size() + 4))));
}

/// Up to the pixels of an RGB PNG: what its size and memory are judged by.
inline Bytes make_png_header(std::uint32_t h, std::uint32_t w, bool interlaced) {
  Bytes png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  Bytes head;
  for (const std::uint32_t side : {w, h}) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      head.push_back(static_cast<std::uint8_t>(side >> shift));
    }
  }
  head.insert(head.end(), {8, 2, 0, 0, static_cast<std::uint8_t>(interlaced)});
  add_chunk(png, "IHDR", head);
  add_chunk(png, "IDAT", {});
  return png;
}

struct PngKind {
  int h = 48, w = 64;
  bool interlaced = false;
  int seed = 0;
};

/// RGB, the pixels of make_jpeg, all in one IDAT.
inline Bytes make_png(const PngKind& kind) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  Bytes bytes;
  png_set_write_fn(
      png, &bytes,
      [](png_structp p, png_bytep data, std::size_t size) {
        auto* out = static_cast<Bytes*>(png_get_io_ptr(p));
        out->insert(out->end(), data, data + size);
      },
      nullptr);
  png_set_compression_buffer_size(png, 1 << 20);
  png_set_IHDR(png, info, static_cast<png_uint_32>(kind.w), static_cast<png_uint_32>(kind.h), 8,
               PNG_COLOR_TYPE_RGB, kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  std::vector<Bytes> rows;
  std::vector<png_bytep> pointers;
  for (int y = 0; y < kind.h; ++y) {
    Bytes& row = rows.emplace_back();
    for (int x = 0; x < 3 * kind.w; ++x) row.push_back(texture(kind.seed, y, x / 3, x % 3));
  }
  for (Bytes& row : rows) pointers.push_back(row.data());
  png_write_image(png, pointers.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

}  // namespace tunas::data::testing
