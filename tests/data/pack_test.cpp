// Packs: what goes in comes out, the loader cannot tell a pack from its source, and no damage is
// believed.
#include "data/pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "data/loader.h"
#include "engine/crc32c.h"
#include "engine/file.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using namespace testing;

Bytes file_bytes(const std::string& path) {
  const std::string text = engine::read_file(path);
  return {text.begin(), text.end()};
}

/// Packs `records` as they are, or decoded.
std::string pack(const Folder& folder, const Records& records, Payload payload) {
  const std::string path = folder.path(payload == Payload::encoded ? "e.pack" : "d.pack");
  PackWriter writer(path, payload);
  Decoder decoder;
  Records::Scratch scratch;
  for (std::int64_t i = 0; i < records.size(); ++i) {
    const Content content = records.read(i, scratch);
    const Size size = decoder.open(content);
    Bytes bytes(content.bytes.begin(), content.bytes.end());
    if (payload == Payload::pixels) {
      bytes.resize(3 * static_cast<std::size_t>(size.h) * static_cast<std::size_t>(size.w));
      decoder.read({0, 0, size.h, size.w}, bytes.data());
    }
    writer.add({bytes, size, records.label(i), records.place(i).key});
  }
  writer.commit(R"({"data": "a test"})");
  return path;
}

Records open(const std::string& path) { return open_records("pack:" + path, Split::train); }

class PackTest : public ::testing::Test {
 protected:
  PackTest() { folder_.write("a.tar", make_tar(9)); }
  Records tar() const { return open_records("tar:" + folder_.path("a.tar"), Split::train); }
  Folder folder_;
};

TEST_F(PackTest, HoldsWhatWentIn) {
  const Records source = tar();
  const std::string path = pack(folder_, source, Payload::encoded);
  const Records records = open(path);
  ASSERT_EQ(records.size(), 9);
  EXPECT_EQ(records.labels, source.labels);
  EXPECT_EQ(records.name(0), path + ": k0 (at byte 16)");
  Records::Scratch scratch;
  for (std::int64_t i = 0; i < 9; ++i) {
    EXPECT_EQ(records.place(i).key, source.place(i).key);
    const auto a = records.read(i, scratch).bytes, b = source.read(i, scratch).bytes;
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
  const Bytes bytes = file_bytes(path);
  const Pack parsed = parse_pack(bytes, path);
  EXPECT_EQ(parsed.provenance, R"({"data": "a test"})");
  EXPECT_EQ(parsed.entry(1).h, 48u);
  EXPECT_EQ(parsed.entry(1).w, 64u);
  EXPECT_FALSE(records.verify);
}

/// Training batches are the same bytes.
void expect_same_batches(const Records& a, const Records& b, int batch, int batches) {
  LoaderConfig config;
  config.batch = batch;
  config.seed = 3;
  config.workers = 2;
  Loader first(a, everything(a.size()), config), second(b, everything(b.size()), config);
  for (int i = 0; i < batches; ++i) {
    const Batch &x = first.next(), &y = second.next();
    ASSERT_EQ(x.size(), y.size());
    EXPECT_EQ(x.labels, y.labels);
    for (std::size_t n = 0; n < x.crops.size(); ++n) {
      ASSERT_EQ(x.crops[n].h, y.crops[n].h);
      ASSERT_EQ(x.crops[n].w, y.crops[n].w);
      EXPECT_EQ(x.crops[n].flip, y.crops[n].flip);
      EXPECT_EQ(std::memcmp(x.pixels + x.crops[n].offset, y.pixels + y.crops[n].offset,
                            x.crops[n].bytes()),
                0);
    }
  }
}

TEST_F(PackTest, TheLoaderGivesTheSameBatches) {
  const Records source = tar();
  expect_same_batches(source, open(pack(folder_, source, Payload::encoded)), 4, 7);
  expect_same_batches(source, open(pack(folder_, source, Payload::pixels)), 4, 7);
}

TEST(Pack, OfSharedPhotosGivesTheSameBatches) {
  TUNAS_NEED_SHARED(photos, "imagenet_sample");
  Folder folder;
  const Records source =
      open_records("tar:" + photos + "/imagenet_sample-000001.tar", Split::train);
  expect_same_batches(source, open(pack(folder, source, Payload::encoded)), 64, 4);
}

TEST_F(PackTest, EveryFlippedBitIsNoticed) {
  for (const Payload payload : {Payload::encoded, Payload::pixels}) {
    const Bytes good = file_bytes(pack(folder_, tar(), payload));
    const std::size_t step = payload == Payload::encoded ? 11 : 1001;
    const std::size_t tables = good.size() - 64 - 18 - 18 - 9 * 40;  // tail, JSON, keys, entries
    int of_payload = 0;
    for (std::size_t at = 0; at < good.size(); at += at < tables ? step : 1) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::uint8_t>(1 << at % 8);
      const std::string path = folder_.write("bad.pack", bad);
      bool noticed = false;
      try {
        const Records records = open(path);
        Records::Scratch scratch;
        for (std::int64_t i = 0; i < records.size(); ++i) {
          if (records.verify) records.verify(i);
          records.read(i, scratch);
        }
      } catch (const Error& error) {
        noticed = error.code() == Exit::data;
        of_payload += std::string(error.what()).starts_with("the record's checksum") ? 1 : 0;
      }
      EXPECT_TRUE(noticed || (at >= tables - 8 && at < tables)) << "byte " << at;
    }
    EXPECT_GT(of_payload, 10);
  }
}

TEST_F(PackTest, EveryTruncationIsNoticed) {
  const Bytes good = file_bytes(pack(folder_, tar(), Payload::encoded));
  for (std::size_t size = 0; size < good.size();
       size += size < 64 || size + 200 > good.size() ? 1 : 97) {
    const std::string text = sentence([&] { parse_pack(std::span(good).first(size), "a.pack"); });
    EXPECT_SAYS(text, size < 16 ? "a.pack: not a pack" : "a.pack: ");
  }
  EXPECT_SAYS(sentence([&] { parse_pack(std::span(good).first(good.size() - 1), "a.pack"); }),
              "truncated");
}

/// A pack whose checksums hold though its numbers do not.
Bytes forged(Bytes pack, std::size_t from_end, std::uint32_t value) {
  const std::size_t tail = pack.size() - 64;
  std::memcpy(pack.data() + pack.size() - from_end, &value, 4);
  std::uint64_t end = 0;
  std::memcpy(&end, pack.data() + tail + 8, 8);
  const std::size_t first = std::min<std::size_t>((end + 7) / 8 * 8, tail);
  const std::uint32_t tables = engine::crc32c(std::span(pack).subspan(first, tail - first));
  std::memcpy(pack.data() + tail + 40, &tables, 4);
  const std::uint32_t crc = engine::crc32c(std::span(pack).subspan(tail, 60));
  std::memcpy(pack.data() + tail + 60, &crc, 4);
  return pack;
}

TEST_F(PackTest, NumbersThatMakeNoSenseAreRefusedThoughChecksumsHold) {
  const Bytes encoded = file_bytes(pack(folder_, tar(), Payload::encoded));
  const Bytes pixels = file_bytes(pack(folder_, tar(), Payload::pixels));
  const auto says = [](const Bytes& pack, std::size_t from_end, std::uint32_t value) {
    return sentence([&] { parse_pack(forged(pack, from_end, value), "a.pack"); });
  };
  EXPECT_NO_THROW(parse_pack(forged(encoded, 64 - 16, 18), "a.pack")) << "18 bytes of keys, as is";
  EXPECT_SAYS(says(encoded, 64, 10), "not what its last bytes promise");
  EXPECT_SAYS(says(encoded, 60, 0x10000000), "not what its last bytes promise");
  EXPECT_SAYS(says(encoded, 64 - 8, 8), "not what its last bytes promise");
  EXPECT_SAYS(says(encoded, 64 - 16, 17), "not what its last bytes promise");
  const std::size_t entry = 64 + 18 + 18 + 2 * 40;  // the last but one
  EXPECT_SAYS(says(encoded, entry, 3), "record 7 has an impossible place");
  EXPECT_SAYS(says(encoded, entry - 4, 1), "record 7 has an impossible place");
  EXPECT_SAYS(says(encoded, entry - 8, 100), "record 7 has an impossible place");
  EXPECT_SAYS(says(encoded, entry - 16, 1 << 20), "record 7 has an impossible label");
  EXPECT_SAYS(says(encoded, entry - 20, 0), "record 7 has an impossible size");
  EXPECT_SAYS(says(encoded, entry - 24, 0xFFFFFFFF), "record 7 has an impossible size");
  EXPECT_SAYS(says(pixels, entry - 20, 41), "record 7 has an impossible size");
  EXPECT_SAYS(says(encoded, 64 + 18, 0x7B7B7B7B), "its JSON cannot be read");
}

TEST_F(PackTest, WithoutCommitThereIsNoFile) {
  {
    PackWriter writer(folder_.path("x.pack"), Payload::encoded);
    const Bytes bytes = bytes_of("J");
    writer.add({bytes, {1, 1}, 0, "k"});
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path("x.pack")));
  EXPECT_FALSE(std::filesystem::exists(folder_.path("x.pack.part")));
  PackWriter(folder_.path("empty.pack"), Payload::encoded).commit("{}");
  EXPECT_SAYS(sentence([&] { open(folder_.path("empty.pack")); }), "contradict each other");
  EXPECT_SAYS(sentence([&] { open(folder_.path("a.tar")); }), "a.tar: not a pack");
}

}  // namespace
}  // namespace tunas::data
