// Decoding regions: the pixels of the full decode by plain libjpeg, colour spaces, damage.
#include "data/decode.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/philox.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::JpegKind;
using testing::make_jpeg;
using testing::sentence;

struct Picture {
  Size size;
  Bytes pixels;  // [h][w][channels]
};

/// All of a JPEG by the shortest use of libjpeg, in the colour space given.
Picture decode_plainly(std::span<const std::uint8_t> jpeg, J_COLOR_SPACE space) {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  errors.emit_message = [](j_common_ptr, int) {};
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, jpeg.data(), jpeg.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = space;
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

Bytes cut(const Picture& picture, const Region& region) {
  Bytes out;
  for (int y = region.y; y < region.y + region.h; ++y) {
    const auto first = picture.pixels.begin() + 3L * (y * picture.size.w + region.x);
    out.insert(out.end(), first, first + 3L * region.w);
  }
  return out;
}

Bytes decode(Decoder& decoder, const Content& content, const Region& region) {
  decoder.open(content);
  Bytes rgb(3UL * region.h * region.w);
  decoder.read(region, rgb.data());
  return rgb;
}

Region random_region(Size size, std::uint64_t index) {
  const Random4 r = philox({5, Purpose::test, 0, 0}, index);
  Region region;
  region.h = 1 + static_cast<int>(r.v[0] % size.h);
  region.w = 1 + static_cast<int>(r.v[1] % size.w);
  region.y = static_cast<int>(r.v[2] % (size.h - region.h + 1));
  region.x = static_cast<int>(r.v[3] % (size.w - region.w + 1));
  return region;
}

void expect_regions_of_the_whole(Decoder& decoder, std::span<const std::uint8_t> jpeg, int tries,
                                 const std::string& what) {
  const Picture whole = decode_plainly(jpeg, JCS_RGB);
  ASSERT_EQ(decoder.open({jpeg}), whole.size) << what;
  for (int i = 0; i <= tries; ++i) {
    const Region region = i == tries ? Region{0, 0, whole.size.h, whole.size.w}
                                     : random_region(whole.size, static_cast<std::uint64_t>(i));
    ASSERT_EQ(decode(decoder, {jpeg}, region), cut(whole, region))
        << what << ": " << region.h << 'x' << region.w << " at " << region.y << ',' << region.x;
  }
}

TEST(Decode, RegionsAreCutsOfTheWholeImage) {
  Decoder decoder;
  for (const bool progressive : {false, true}) {
    for (const int restart : {0, 3}) {
      for (const auto& [h_samp, v_samp] : {std::pair(1, 1), {2, 1}, {1, 2}, {2, 2}, {4, 1}}) {
        for (const auto& [h, w] : {std::pair(97, 131), {64, 64}, {17, 200}, {8, 7}, {1, 1}}) {
          JpegKind kind;
          kind.h = h;
          kind.w = w;
          kind.h_samp = h_samp;
          kind.v_samp = v_samp;
          kind.progressive = progressive;
          kind.restart = restart;
          expect_regions_of_the_whole(decoder, make_jpeg(kind), 40,
                                      std::to_string(h) + "x" + std::to_string(w) + " sampling " +
                                          std::to_string(h_samp) + std::to_string(v_samp));
        }
      }
    }
  }
}

TEST(Decode, RegionsOfRealPhotosAreCutsOfTheWhole) {
  TUNAS_NEED_SHARED(imagenet, "imagenet_sample");
  TUNAS_NEED_SHARED(caltech, "caltech20");
  Decoder decoder;
  Records::Scratch scratch;
  for (const std::string& glob : {imagenet + "/*.tar", caltech + "/val-*.tar"}) {
    const Records records = open_records("tar:" + glob, Split::train);
    for (std::int64_t i = 0; i < records.size(); i += 9) {
      expect_regions_of_the_whole(decoder, records.read(i, scratch).bytes, 3, records.name(i));
    }
  }
}

TEST(Decode, GreyBecomesRgb) {
  const Bytes jpeg = make_jpeg({.space = JCS_GRAYSCALE});
  const Picture grey = decode_plainly(jpeg, JCS_GRAYSCALE);
  Decoder decoder;
  const Bytes rgb = decode(decoder, {jpeg}, {0, 0, 48, 64});
  for (std::size_t i = 0; i < grey.pixels.size(); ++i) {
    for (std::size_t c = 0; c < 3; ++c) ASSERT_EQ(rgb[3 * i + c], grey.pixels[i]);
  }
}

TEST(Decode, CmykAndYcckBecomeRgb) {
  for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK}) {
    Bytes jpeg = make_jpeg({.space = JCS_CMYK, .stored = stored, .h_samp = 1, .v_samp = 1});
    const Picture ink = decode_plainly(jpeg, JCS_CMYK);
    Decoder decoder;
    const Region region = {7, 20, 30, 33};
    for (const bool adobe : {true, false}) {
      if (!adobe) {
        if (stored == JCS_YCCK) continue;  // only the Adobe marker can announce YCCK
        const char marker[] = "Adobe";
        const auto at = std::search(jpeg.begin(), jpeg.end(), marker, marker + 5);
        ASSERT_NE(at, jpeg.end());
        *at = 'a';
      }
      const Bytes rgb = decode(decoder, {jpeg}, region);
      for (int y = 0; y < region.h; ++y) {
        for (int x = 0; x < region.w; ++x) {
          const std::uint8_t* p = &ink.pixels[4UL * ((y + region.y) * 64 + x + region.x)];
          for (int c = 0; c < 3; ++c) {
            const int want = adobe ? p[c] * p[3] / 255 : (255 - p[c]) * (255 - p[3]) / 255;
            ASSERT_EQ(rgb[3UL * (y * region.w + x) + c], want);
          }
        }
      }
    }
  }
}

TEST(Decode, RawPixels) {
  const Bytes grey = {1, 2, 3, 4, 5, 6};
  Decoder decoder;
  EXPECT_EQ(decode(decoder, {grey, 2, 3, 1}, {0, 1, 2, 2}),
            (Bytes{2, 2, 2, 3, 3, 3, 5, 5, 5, 6, 6, 6}));
  EXPECT_EQ(decode(decoder, {grey, 2, 1, 3}, {1, 0, 1, 1}), (Bytes{4, 5, 6}));
}

TEST(Decode, TruncatedJpegsAreErrorsAndLeaveTheDecoderUsable) {
  Decoder decoder;
  const Region all = {0, 0, 48, 64};
  for (const bool progressive : {false, true}) {
    const Bytes jpeg = make_jpeg({.progressive = progressive});
    const Bytes whole = decode(decoder, {jpeg}, all);
    for (std::size_t size = 0; size + 2 < jpeg.size(); size += size + 64 < jpeg.size() ? 37 : 1) {
      const Bytes part(jpeg.begin(), jpeg.begin() + static_cast<long>(size));
      EXPECT_FALSE(sentence([&] { decode(decoder, {part}, all); }).empty()) << size;
      ASSERT_EQ(decode(decoder, {jpeg}, all), whole) << "after " << size;
    }
  }
}

TEST(Decode, MutatedJpegsNeverCrash) {
  Decoder decoder;
  int failed = 0;
  for (const bool progressive : {false, true}) {
    const Bytes jpeg = make_jpeg({.progressive = progressive});
    for (std::uint64_t i = 0; i < 1500; ++i) {
      Bytes mutant = jpeg;
      const Random4 r = philox({6, Purpose::test, progressive, 0}, i);
      mutant[r.v[0] % jpeg.size()] ^= static_cast<std::uint8_t>(1u << r.v[1] % 8);
      if (i % 3 == 0) mutant[r.v[2] % jpeg.size()] = static_cast<std::uint8_t>(r.v[3]);
      try {
        const Size size = decoder.open({mutant});
        decode(decoder, {mutant}, random_region(size, i));
      } catch (const Error& error) {
        ++failed;
        EXPECT_EQ(error.code(), Exit::data) << error.what();
      }
    }
  }
  EXPECT_GT(failed, 300);
}

TEST(Decode, HarmlessOdditiesAreAccepted) {
  Bytes jpeg = make_jpeg({});
  Decoder decoder;
  const Region all = {0, 0, 48, 64};
  const Bytes whole = decode(decoder, {jpeg}, all);
  jpeg.insert(jpeg.end() - 2, {0, 1, 2});  // extra bytes before the end marker
  EXPECT_EQ(decode(decoder, {jpeg}, all), whole);
}

TEST(Decode, RefusesBombs) {
  Decoder decoder;
  Bytes jpeg = make_jpeg({});
  const Bytes marker = {0xFF, 0xC0};
  const auto frame = std::search(jpeg.begin(), jpeg.end(), marker.begin(), marker.end());
  ASSERT_NE(frame, jpeg.end());
  for (int i = 5; i < 9; ++i) frame[i] = 0x7F;  // 32639 x 32639
  EXPECT_NE(sentence([&] { decoder.open({jpeg}); }).find("32639x32639"), std::string::npos);

  Bytes scans = make_jpeg({.space = JCS_GRAYSCALE, .progressive = true});
  const Bytes start = {0xFF, 0xDA};
  const auto last = std::find_end(scans.begin(), scans.end(), start.begin(), start.end());
  const Bytes scan(last, scans.end() - 2);
  scans.erase(scans.end() - 2, scans.end());
  for (int i = 0; i < kMaxScans + 10; ++i) scans.insert(scans.end(), scan.begin(), scan.end());
  EXPECT_FALSE(sentence([&] { decode(decoder, {scans}, {0, 0, 8, 8}); }).empty());
}

TEST(Decode, RefusesRegionsOutsideTheImage) {
  const Bytes jpeg = make_jpeg({});
  Decoder decoder;
  for (const Region& region :
       {Region{0, 0, 49, 1}, Region{0, 60, 1, 5}, Region{-1, 0, 4, 4}, Region{0, 0, 0, 4}}) {
    decoder.open({jpeg});
    std::uint8_t out[300];
    EXPECT_THROW(decoder.read(region, out), Error);
  }
}

}  // namespace
}  // namespace tunas::data
