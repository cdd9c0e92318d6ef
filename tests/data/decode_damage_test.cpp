// Decoding what is damaged, large, something else: refused with a reason, harming nothing after it.
#include <gtest/gtest.h>

#include <algorithm>

#include "data/decode.h"
#include "tests/data/pictures.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::decode;
using testing::JpegKind;
using testing::make_jpeg;
using testing::make_png;
using testing::make_png_header;
using testing::random_region;
using testing::sentence;

TEST(DecodeDamage, TruncatedJpegsAreErrorsAndLeaveTheDecoderUsable) {
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

TEST(DecodeDamage, MutatedJpegsNeverCrash) {
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

TEST(DecodeDamage, HarmlessOdditiesAreAccepted) {
  Bytes jpeg = make_jpeg({});
  Decoder decoder;
  const Region all = {0, 0, 48, 64};
  const Bytes whole = decode(decoder, {jpeg}, all);
  jpeg.insert(jpeg.end() - 2, {0, 1, 2});  // extra bytes before the end marker
  EXPECT_EQ(decode(decoder, {jpeg}, all), whole);
}

TEST(DecodeDamage, RefusesBombs) {
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

/// Damage in a PNG that ends before the region's end is seen, by whose sum it may be.
TEST(DecodeDamage, DamagedPngs) {
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

TEST(DecodeDamage, OtherFilesAreNamed) {
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

TEST(DecodeDamage, SaysWhereItStopped) {
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
TEST(DecodeDamage, RefusesWhatNeedsTooMuchMemory) {
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

TEST(DecodeDamage, RefusesRegionsOutsideTheImage) {
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
