// Decoding regions: the pixels of the full decode by plain libjpeg and by Pillow, colour spaces,
// reductions.
#include "data/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/data/pictures.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::cut;
using testing::decode;
using testing::decode_plainly;
using testing::JpegKind;
using testing::make_jpeg;
using testing::Picture;
using testing::random_region;

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

}  // namespace
}  // namespace tunas::data
