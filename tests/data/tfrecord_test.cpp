// TFRecords: files that TensorFlow wrote, both conventions of features, and every kind of damage.
#include "data/tfrecord.h"

#include <gtest/gtest.h>

#include "data/archives.h"
#include "data/decode.h"
#include "engine/file.h"
#include "tests/data/examples.h"

namespace tunas::data {
namespace {

using namespace testing;

std::string golden(const std::string& name) {
  return std::string(TUNAS_SOURCE_DIR) + "/tests/golden/tfrecord/" + name;
}

Records open(const std::string& path) { return open_records("tfrecord:" + path, Split::train); }

TEST(Tfrecord, OfTensorFlowDatasets) {
  const Records records = open(golden("datasets.tfrecord"));
  EXPECT_EQ(records.labels, (std::vector<std::int32_t>{7, 0, 999}));
  EXPECT_EQ(records.name(1), golden("datasets.tfrecord") + ": n0144_1.JPEG (at byte 275)");
  Decoder decoder;
  Records::Scratch scratch;
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(decoder.open(records.read(i, scratch)), (Size{2, 3}));
  }
}

TEST(Tfrecord, OfInceptionCountsFromZeroAfterwards) {
  const Records records = open(golden("inception.tfrecord"));
  EXPECT_EQ(records.labels, (std::vector<std::int32_t>{0, 999}));
  EXPECT_EQ(records.place(1).key, "f1.JPEG");
  Records::Scratch scratch;
  EXPECT_EQ(records.read(1, scratch).bytes.size(), 178u);
}

TEST(Tfrecord, EveryFlippedBitIsNoticed) {
  const std::string text = engine::read_file(golden("datasets.tfrecord"));
  const Bytes good(text.begin(), text.end());
  Folder folder;
  int read_errors = 0;
  for (std::size_t i = 0; i < 8 * 280; i += 3) {  // the first record and a little of the second
    Bytes bad = good;
    bad[i / 8] ^= static_cast<std::uint8_t>(1 << i % 8);
    const std::string path = folder.write("a", bad);
    bool noticed = false;
    try {
      const Records records = open(path);
      Records::Scratch scratch;
      for (std::int64_t r = 0; r < records.size(); ++r) records.read(r, scratch);
    } catch (const Error& error) {
      noticed = error.code() == Exit::data;
      read_errors += std::string(error.what()).starts_with("the record's checksum") ? 1 : 0;
    }
    EXPECT_TRUE(noticed) << "bit " << i;
  }
  EXPECT_GT(read_errors, 100) << "damage in an image is found when it is read";
}

TEST(Tfrecord, DamageThatHidesALabelIsCalledDamage) {
  Folder folder;
  Bytes file = tfrecord_of(example_of(bytes_of("J"), 1, "k"));
  file[file.size() - 5] = 0xFF;  // the label
  EXPECT_SAYS(sentence([&] { open(folder.write("a", file)); }),
              "a: record 0 (at byte 12): its checksum does not hold; fetch the file again");
}

TEST(Tfrecord, TruncationsAreNamed) {
  const Bytes record = tfrecord_of(example_of(bytes_of("J"), 1, "k"));
  Bytes two = record;
  append(two, record);
  EXPECT_EQ(tfrecords(two, "a").size(), 2u);
  EXPECT_EQ(tfrecords({}, "a").size(), 0u);
  for (std::size_t size = 1; size < two.size(); ++size) {
    if (size == record.size()) continue;
    const std::string text = sentence([&] { tfrecords(std::span(two).first(size), "a.tfrecord"); });
    EXPECT_SAYS(text, "a.tfrecord: ");
    EXPECT_SAYS(text, "truncated");
  }
}

TEST(Tfrecord, OtherFilesAreNamed) {
  Folder folder;
  EXPECT_SAYS(sentence([&] { open(folder.write("a", {0x1F, 0x8B, 8, 0})); }), "gunzip");
  EXPECT_SAYS(sentence([&] { open(folder.write("a", Bytes(100, 'x'))); }), "not a TFRecord file");
  EXPECT_SAYS(sentence([&] { open(folder.write("a", {})); }), "hold no sample");
  Bytes huge(12, 0xFF);  // a length near 2^64 whose checksum holds
  const std::uint32_t crc = engine::masked(engine::crc32c(std::span(huge).first(8)));
  for (int i = 0; i < 4; ++i)
    huge[8 + static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(crc >> 8 * i);
  EXPECT_SAYS(sentence([&] { open(folder.write("a", huge)); }), "reaches beyond the end");
}

// ---- the protobuf

TEST(Example, FieldsComeInAnyOrderAndStrangersAreSkipped) {
  Bytes unpacked = number_field(1, 42);
  Bytes features = entry("label", field(3, unpacked));
  append(features, entry("score", field(2, field(1, Bytes(8, 1)))));
  append(features, field(9, bytes_of("a field of tomorrow")));
  append(features, varint(7 << 3 | 1));
  append(features, Bytes(8));
  append(features, varint(7 << 3 | 5));
  append(features, Bytes(4));
  append(features, entry("image", bytes_feature(bytes_of("J"))));
  Bytes value_first = field(2, bytes_feature(bytes_of("name")));
  append(value_first, field(1, bytes_of("id")));
  append(features, field(1, value_first));
  const Bytes data = field(1, features);
  const Example parsed = parse_example(data);
  EXPECT_EQ(parsed.label, 42);
  EXPECT_EQ(parsed.key, "name");
  EXPECT_EQ(Bytes(parsed.image.begin(), parsed.image.end()), bytes_of("J"));
}

TEST(Example, PartsOfTheMessageAreMerged) {
  Bytes data = example({entry("image", bytes_feature(bytes_of("J")))});
  append(data, example({entry("label", int_feature({5}))}));
  EXPECT_EQ(parse_example(data).label, 5);
}

TEST(Example, WhatIsMissingOrDoubleIsNamed) {
  const Bytes image = entry("image", bytes_feature(bytes_of("J")));
  const auto says = [](const std::vector<Bytes>& entries) {
    const Bytes data = example(entries);
    return sentence([&] { parse_example(data); });
  };
  EXPECT_SAYS(says({}), "has no feature \"image\" or \"image/encoded\"");
  EXPECT_SAYS(says({image}), "has no feature \"label\" or \"image/class/label\"");
  EXPECT_SAYS(says({image, entry("label", int_feature({}))}), "\"label\" holds 0 whole numbers");
  EXPECT_SAYS(says({image, entry("label", int_feature({1, 2}))}), "\"label\" holds 2 whole");
  EXPECT_SAYS(says({image, entry("label", bytes_feature(bytes_of("cat")))}), "holds 0 whole");
  EXPECT_SAYS(says({image, entry("image/class/label", int_feature({0}))}), "background");
  Bytes two = field(1, bytes_of("J"));
  append(two, field(1, bytes_of("K")));
  EXPECT_SAYS(says({entry("image", field(1, two)), entry("label", int_feature({1}))}),
              "\"image\" holds 2 images");
}

TEST(Example, TheTestSplitWithoutLabelsIsRefused) {
  Folder folder;
  const std::string path = folder.write("a", tfrecord_of(example_of(bytes_of("J"), -1, "k")));
  EXPECT_SAYS(sentence([&] { open(path); }), "label -1 is not in 0");
}

TEST(Example, BytesThatAreNoProtobufAreRefused) {
  for (const Bytes& bad :
       {Bytes{0x0A}, Bytes{0x0A, 5, 1}, Bytes{0x0B}, Bytes{0x00, 1}, Bytes(11, 0xFF),
        Bytes{0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1},
        Bytes{0x09, 1, 2}, Bytes{0x0D, 1}}) {
    EXPECT_SAYS(sentence([&] { parse_example(bad); }), "not a tf.train.Example");
  }
  const Bytes good = example_of(bytes_of("JPEG"), 300, "k");
  for (std::size_t size = 0; size < good.size(); ++size) {
    sentence([&] { parse_example(std::span(good).first(size)); });
  }
}

}  // namespace
}  // namespace tunas::data
