// Decoding regions: the pixels of the full decode by plain libjpeg, colour spaces, damage.
#include "data/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/philox.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::JpegKind;
using testing::make_jpeg;
using testing::make_png;
using testing::make_png_header;
using testing::sentence;

struct Picture {
  Size size;
  Bytes pixels;  // [h][w][channels]
};

/// All of a JPEG by the shortest use of libjpeg, in the colour space given.
Picture decode_plainly(std::span<const std::uint8_t> jpeg, J_COLOR_SPACE space, int by = 1) {
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

/// Every row and every column at which a region can begin or end, against blocks of any height.
TEST(Decode, WhereverARegionBeginsAndEnds) {
  struct Sampling {
    int h, v, chroma_h = 1, chroma_v = 1;
  };
  Decoder decoder;
  for (const Sampling& s : {Sampling{1, 1},
                            {2, 1},
                            {1, 2},
                            {2, 2},
                            {4, 1},
                            {1, 4},
                            {4, 2},
                            {2, 4},
                            {3, 1},
                            {1, 3},
                            {2, 2, 1, 2},
                            {2, 2, 2, 1},
                            {1, 1, 2, 2}}) {
    for (const bool progressive : {false, true}) {
      const Bytes jpeg = make_jpeg({.h = 75,
                                    .w = 85,
                                    .h_samp = s.h,
                                    .v_samp = s.v,
                                    .chroma_h = s.chroma_h,
                                    .chroma_v = s.chroma_v,
                                    .progressive = progressive,
                                    .restart = progressive ? 0 : 2});
      const Picture whole = decode_plainly(jpeg, JCS_RGB);
      const auto expect_same = [&](const Region& region) {
        ASSERT_EQ(decode(decoder, {jpeg}, region), cut(whole, region))
            << s.h << s.v << s.chroma_h << s.chroma_v << " progressive " << progressive << ": "
            << region.h << 'x' << region.w << " at " << region.y << ',' << region.x;
      };
      for (int y = 0; y < 75; ++y) {
        expect_same({y, 33, 1, 20});
        expect_same({y, 0, 75 - y, 85});
        expect_same({0, 5, y + 1, 3});
      }
      for (int x = 0; x < 85; ++x) {
        expect_same({20, x, 18, 1});
        expect_same({31, x, 9, 85 - x});
        expect_same({15, 0, 9, x + 1});
      }
    }
  }
}

/// A progressive file may stop refining; libjpeg then smooths across blocks.
TEST(Decode, RegionsOfUnfinishedProgressionsAreCutsOfTheWhole) {
  Decoder decoder;
  for (const int scans : {1, 2, 4, 6}) {
    const Bytes jpeg = make_jpeg({.h = 130, .w = 150, .progressive = true, .scans = scans});
    expect_regions_of_the_whole(decoder, jpeg, 60, std::to_string(scans) + " scans");
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
  EXPECT_EQ(sentence([&] {
              decode(decoder, {scans}, {0, 0, 8, 8});
            }),
            "it has more than 200 scans");
}

/// The golden file says what made it.
TEST(Decode, IsPillows) {
  std::ifstream in(TUNAS_SOURCE_DIR "/tests/golden/decode.json");
  const auto cases = nlohmann::json::parse(in)["cases"];
  ASSERT_EQ(cases.size(), 61u);
  const auto unhex = [](const std::string& text) {
    Bytes bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
      bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    }
    return bytes;
  };
  Decoder decoder;
  for (const auto& c : cases) {
    const std::string name = c["name"];
    const Bytes file = unhex(c["file"]);
    const Picture whole = {{c["h"], c["w"]}, unhex(c["rgb"])};
    ASSERT_EQ(decoder.open({file}), whole.size) << name;
    for (std::uint64_t i = 0; i < 8; ++i) {
      const Region region =
          i == 0 ? Region{0, 0, whole.size.h, whole.size.w} : random_region(whole.size, i);
      ASSERT_EQ(decode(decoder, {file}, region), cut(whole, region))
          << name << ": " << region.h << 'x' << region.w << " at " << region.y << ',' << region.x;
    }
  }
}

/// Damage in a PNG that ends before the region's end is seen, by whose sum it may be.
TEST(Decode, DamagedPngs) {
  const Bytes png = make_png({.h = 64, .w = 48});
  Decoder decoder;
  const Region all = {0, 0, 64, 48}, upper = {3, 5, 20, 30};
  const Bytes whole = decode(decoder, {png}, all), part = decode(decoder, {png}, upper);
  for (std::size_t i = 8; i < png.size() - 16; ++i) {  // but for the end marker
    Bytes mutant = png;
    mutant[i] ^= 0x10;
    EXPECT_FALSE(sentence([&] { decode(decoder, {mutant}, all); }).empty()) << i;
    EXPECT_LE(decoder.stopped_at(), std::ssize(png));
    Bytes shorter(png.begin(), png.begin() + static_cast<long>(i));
    try {
      EXPECT_EQ(decode(decoder, {shorter}, upper), part) << i;  // the upper rows may be whole
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::data);
    }
    try {
      decode(decoder, {mutant}, upper);
      EXPECT_EQ(decode(decoder, {mutant}, upper), part) << "a flipped bit passed at " << i;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::data);
    }
  }
  EXPECT_EQ(decode(decoder, {png}, all), whole);
}

TEST(Decode, OtherFilesAreNamed) {
  Decoder decoder;
  const auto refusal = [&](std::string head) {
    head.resize(40);
    return sentence([&] { decoder.open({testing::bytes_of(head)}); });
  };
  EXPECT_EQ(refusal("GIF89a"), "it is a GIF; JPEG and PNG are read");
  EXPECT_NE(refusal(std::string("RIFF\1\2\3\4WEBP", 12)).find("WebP"), std::string::npos);
  EXPECT_NE(refusal("<html>").find("text"), std::string::npos);
  EXPECT_EQ(refusal("abcd"), "it is neither JPEG nor PNG: it begins with 61 62 63 64");
  EXPECT_EQ(sentence([&] { decoder.open({Bytes{}}); }), "it is empty");
  EXPECT_EQ(decoder.stopped_at(), 0);
}

TEST(Decode, SaysWhereItStopped) {
  const Bytes jpeg = make_jpeg({.h = 200, .w = 200});
  Decoder decoder;
  for (const double share : {0.4, 0.6, 0.8}) {
    Bytes part = jpeg;
    const auto size = static_cast<std::size_t>(share * static_cast<double>(jpeg.size()));
    part.resize(size);
    sentence([&] { decode(decoder, {part}, {0, 0, 200, 200}); });
    EXPECT_LE(decoder.stopped_at(), std::ssize(part));
    EXPECT_GE(decoder.stopped_at(), std::ssize(part) - 400) << "a block row at most";
    part = jpeg;
    part[size] = 0xFF;
    part[size + 1] = 0xD9;  // the end marker
    sentence([&] { decode(decoder, {part}, {0, 0, 200, 200}); });
    EXPECT_NEAR(static_cast<double>(decoder.stopped_at()), static_cast<double>(size), 400);
  }
}

/// Memory that depends on the file: coefficients of progressive JPEGs, interlaced PNGs.
TEST(Decode, RefusesWhatNeedsTooMuchMemory) {
  Decoder decoder;
  const auto with_size = [](Bytes jpeg, int h, int w) {
    for (std::size_t i = 0; i + 9 < jpeg.size(); ++i) {
      if (jpeg[i] == 0xFF && (jpeg[i + 1] == 0xC0 || jpeg[i + 1] == 0xC2)) {
        const int sides[] = {h >> 8, h & 255, w >> 8, w & 255};
        for (std::size_t k = 0; k < 4; ++k) jpeg[i + 5 + k] = static_cast<std::uint8_t>(sides[k]);
        return jpeg;
      }
    }
    return jpeg;
  };
  const JpegKind large = {.h_samp = 1, .v_samp = 1, .progressive = true};
  const Bytes progressive = with_size(make_jpeg(large), 9900, 9900);
  decoder.open({progressive});
  Bytes rgb(3);
  const std::string refusal = sentence([&] { decoder.read({0, 0, 1, 1}, rgb.data()); });
  EXPECT_NE(refusal.find("256 MiB"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("baseline"), std::string::npos) << refusal;
  const JpegKind plain = {.w = 1500, .h_samp = 1, .v_samp = 1};
  const Bytes baseline = with_size(make_jpeg(plain), 65000, 1500);  // its first block row suffices
  decoder.open({baseline});
  decoder.read({0, 0, 1, 1}, rgb.data());

  const auto png = [](std::uint32_t h, std::uint32_t w, bool interlaced) {
    return make_png_header(h, w, interlaced);
  };
  EXPECT_NE(sentence([&] { decoder.open({png(9900, 9900, true)}); }).find("256 MiB"),
            std::string::npos);
  EXPECT_EQ(decoder.open({png(9900, 9900, false)}), (Size{9900, 9900}));
  EXPECT_NE(sentence([&] { decoder.open({png(11000, 11000, false)}); }).find("11000x11000"),
            std::string::npos);
}

/// Every offset of the reduced image gives the pixels of libjpeg's own reduced decode.
TEST(Decode, ReducedRegionsAreCutsOfTheReducedWhole) {
  Decoder decoder;
  for (const auto& [h_samp, v_samp] : {std::pair(1, 1), {2, 1}, {1, 2}, {2, 2}, {4, 1}}) {
    for (const bool progressive : {false, true}) {
      const Bytes jpeg = make_jpeg(
          {.h = 203, .w = 219, .h_samp = h_samp, .v_samp = v_samp, .progressive = progressive});
      for (const int by : {2, 4, 8}) {
        const Picture whole = decode_plainly(jpeg, JCS_RGB, by);
        ASSERT_EQ(whole.size, (Size{(203 + by - 1) / by, (219 + by - 1) / by}));
        for (std::uint64_t i = 0; i < 60; ++i) {
          const Region region = random_region(whole.size, i);
          Bytes rgb(3UL * region.h * region.w);
          decoder.open({jpeg});
          decoder.read(region, rgb.data(), {by});
          ASSERT_EQ(rgb, cut(whole, region))
              << h_samp << v_samp << " by " << by << ": " << region.h << 'x' << region.w << " at "
              << region.y << ',' << region.x;
        }
      }
    }
  }
}

TEST(Decode, ReducesOnlyWhatStaysTwiceTheResolution) {
  Decoder decoder;
  const Bytes jpeg = make_jpeg({.h = 300, .w = 400});
  decoder.open({jpeg});
  EXPECT_EQ(decoder.reduction({0, 0, 300, 400}, 76).by, 1);
  EXPECT_EQ(decoder.reduction({0, 0, 300, 400}, 75).by, 2);
  EXPECT_EQ(decoder.reduction({0, 0, 299, 400}, 75).by, 1);
  EXPECT_EQ(decoder.reduction({0, 0, 300, 400}, 1).by, 8);
  EXPECT_EQ(decoder.reduction({0, 0, 300, 400}, 0).by, 1);
  EXPECT_EQ(reduced({10, 21, 100, 99}, {300, 400}, {4}), (Region{3, 5, 25, 25}));
  EXPECT_EQ(reduced({298, 398, 2, 2}, {299, 399}, {8}), (Region{37, 49, 1, 1}));
  std::uint8_t out[12];
  EXPECT_THROW(decoder.read({0, 0, 1, 1}, out, {3}), Error);
  const Bytes pixels(3 * 90 * 90);
  decoder.open({pixels, 90, 90, 3});
  EXPECT_EQ(decoder.reduction({0, 0, 90, 90}, 8).by, 1);
  EXPECT_THROW(decoder.read({0, 0, 2, 2}, out, {2}), Error);
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
