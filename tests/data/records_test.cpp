// Records from idx files, tars and thin air; every way in which they can be broken.
#include "data/records.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>

#include "data/idx.h"
#include "data/tar.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using testing::add_member;
using testing::Bytes;
using testing::bytes_of;
using testing::end_archive;
using testing::Folder;
using testing::make_tar;
using testing::sentence;

Bytes read(const Records& records, std::int64_t i) {
  Records::Scratch scratch;
  const Content content = records.read(i, scratch);
  return {content.bytes.begin(), content.bytes.end()};
}

// ---- specs

TEST(Records, SpecsNobodyKnowsAreUsageErrors) {
  for (const char* spec : {"", "mnist", "tar:", "synthetic:", "synthetic:4x4", "synthetic:4x0x2",
                           "synthetic:4x4x2x", "synthetic:99999x4x2"}) {
    EXPECT_FALSE(sentence([&] { open_records(spec, Split::train); }, Exit::usage).empty()) << spec;
  }
}

TEST(Records, SyntheticIsAFunctionOfTheIndex) {
  const Records a = open_records("synthetic:6x4x25", Split::train);
  const Records b = open_records("synthetic:6x4x25", Split::test);
  EXPECT_EQ(a.size(), 25);
  EXPECT_EQ(a.classes(), 10);
  EXPECT_EQ(a.label(23), 3);
  Records::Scratch scratch;
  const Content content = a.read(7, scratch);
  EXPECT_EQ(content.h, 4);
  EXPECT_EQ(content.w, 6);
  EXPECT_EQ(content.channels, 3);
  EXPECT_EQ(read(a, 7).size(), 72u);
  EXPECT_EQ(read(a, 7), read(b, 7));
  EXPECT_NE(read(a, 7), read(a, 8));
  EXPECT_SAYS(sentence([&] { a.label(25); }, Exit::usage), "no record 25");
  EXPECT_SAYS(sentence([&] { read(a, -1); }, Exit::usage), "no record -1");
}

TEST(Records, LabelsMustFitTheClassifier) {
  const Records records = open_records("synthetic:4x4x25", Split::train);
  check_labels(records, 10);
  EXPECT_SAYS(sentence([&] { check_labels(records, 9); }), "synthetic:4x4x25: 9: label 9");
}

// ---- idx

Bytes make_idx(const std::vector<int>& shape, const Bytes& values) {
  Bytes bytes = {0, 0, 8, static_cast<std::uint8_t>(shape.size())};
  for (int extent : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<std::uint8_t>(extent >> shift));
    }
  }
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

Bytes gzipped(const Bytes& bytes) {
  z_stream z = {};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  Bytes out(bytes.size() + 100);
  z.next_in = const_cast<std::uint8_t*>(bytes.data());
  z.avail_in = static_cast<unsigned>(bytes.size());
  z.next_out = out.data();
  z.avail_out = static_cast<unsigned>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

const char* const kImages = "train-images-idx3-ubyte";
const char* const kLabels = "train-labels-idx1-ubyte";

TEST(Idx, PlainOrGzipped) {
  Bytes pixels(3 * 2 * 5);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i);
  for (const bool gzip : {false, true}) {
    Folder folder;
    const auto put = [&](const std::string& name, const Bytes& bytes) {
      folder.write(gzip ? name + ".gz" : name, gzip ? gzipped(bytes) : bytes);
    };
    put(kImages, make_idx({3, 2, 5}, pixels));
    put(kLabels, make_idx({3}, {4, 0, 9}));
    const Records records = open_records("fashion-mnist:" + folder.path(""), Split::train);
    ASSERT_EQ(records.size(), 3);
    EXPECT_EQ(records.classes(), 10);
    EXPECT_EQ(records.labels, (std::vector<std::int32_t>{4, 0, 9}));
    Records::Scratch scratch;
    const Content content = records.read(2, scratch);
    EXPECT_EQ(content.h, 2);
    EXPECT_EQ(content.w, 5);
    EXPECT_EQ(content.channels, 1);
    EXPECT_EQ(Bytes(content.bytes.begin(), content.bytes.end()),
              Bytes(pixels.begin() + 20, pixels.end()));
    EXPECT_SAYS(sentence([&] { open_fashion_mnist(folder.path(""), Split::test); }), "t10k-images");
  }
}

TEST(Idx, BrokenFilesAreNamed) {
  Folder folder;
  const auto open = [&] { open_fashion_mnist(folder.path(""), Split::train); };
  EXPECT_SAYS(sentence(open), "dataset-fashion-mnist");
  folder.write(kImages, make_idx({3, 2, 5}, Bytes(29)));
  folder.write(kLabels, make_idx({3}, Bytes(3)));
  EXPECT_SAYS(sentence(open), "holds 29 bytes where its header promises 30");
  folder.write(kImages, make_idx({3, 2, 5}, Bytes(31)));
  EXPECT_SAYS(sentence(open), "holds 31 bytes");
  folder.write(kImages, make_idx({3, 2, 0}, {}));
  EXPECT_SAYS(sentence(open), "makes no sense");
  folder.write(kImages, make_idx({1 << 30, 1 << 30, 1 << 30}, {}));
  EXPECT_SAYS(sentence(open), "makes no sense");
  folder.write(kImages, make_idx({3, 2}, Bytes(6)));
  EXPECT_SAYS(sentence(open), "not an idx file");
  folder.write(kImages, {});
  EXPECT_SAYS(sentence(open), "not an idx file");
  folder.write(kImages, make_idx({4, 2, 5}, Bytes(40)));
  EXPECT_SAYS(sentence(open), "do not belong together");
  Bytes packed = gzipped(make_idx({4, 2, 5}, Bytes(40, 7)));
  packed.erase(packed.end() - 10, packed.end());
  folder.write(std::string(kImages) + ".gz", packed);
  EXPECT_SAYS(sentence(open), "the file is truncated");
  packed[15] ^= 0xFF;
  folder.write(std::string(kImages) + ".gz", packed);
  EXPECT_SAYS(sentence(open), "broken after");
}

TEST(Idx, FashionMnistOfTheDistribution) {
  if (!std::filesystem::exists(kFashionMnist)) {
    GTEST_SKIP() << "needs " << kFashionMnist << "; install dataset-fashion-mnist";
  }
  const Records train = open_records("fashion-mnist", Split::train);
  const Records test = open_records("fashion-mnist", Split::test);
  EXPECT_EQ(train.size(), 60000);
  EXPECT_EQ(test.size(), 10000);
  for (int label = 0; label < 10; ++label) {
    EXPECT_EQ(std::count(train.labels.begin(), train.labels.end(), label), 6000);
  }
  Records::Scratch scratch;
  EXPECT_EQ(train.read(59999, scratch).bytes.size(), 784u);
}

// ---- tars

Records open_archive(const Folder& folder, const Bytes& tar) {
  folder.write("a.tar", tar);
  return open_records("tar:" + folder.path("*.tar"), Split::train);
}

TEST(Tar, SamplesOfSeveralFilesInOrder) {
  Folder folder;
  Bytes first, second;
  add_member(first, "b/x.1.jpg", bytes_of("ignored: its ending is 1.jpg"));
  add_member(first, "b/y.jpg", bytes_of("JPEG y"));
  add_member(first, "b/y.txt", bytes_of("also ignored"));
  add_member(first, "b/y.cls", bytes_of("12\n"));
  add_member(first, "folder", {}, '5');
  add_member(second, "label-first.cls", bytes_of("3"));
  add_member(second, "label-first.jpeg", Bytes(600, 'z'));
  end_archive(first);
  end_archive(second);
  folder.write("2.tar", second);
  folder.write("1.tar", first);
  const Records records = open_records("tar:" + folder.path("*.tar"), Split::train);
  ASSERT_EQ(records.size(), 2);
  EXPECT_EQ(records.classes(), 13);
  EXPECT_EQ(records.label(0), 12);
  EXPECT_EQ(read(records, 0), bytes_of("JPEG y"));
  EXPECT_EQ(records.label(1), 3);
  EXPECT_EQ(read(records, 1), Bytes(600, 'z'));
  EXPECT_EQ(records.name(0), folder.path("1.tar") + ": b/y (at byte 1536)");
}

TEST(Tar, LongNamesOfGnuAndPax) {
  const std::string gnu = std::string(150, 'g'), pax = std::string(200, 'p');
  const auto record = [](const std::string& text) {  // the length counts its own digits
    return std::to_string(text.size() + 5) + " " + text + "\n";
  };
  Bytes tar;
  add_member(tar, "././@LongLink", bytes_of(gnu + ".jpg" + '\0'), 'L');
  add_member(tar, gnu.substr(0, 99), bytes_of("G"));
  add_member(tar, "././@LongLink", bytes_of(gnu + ".cls" + '\0'), 'L');
  add_member(tar, gnu.substr(0, 99), bytes_of("1"));
  add_member(tar, "x", bytes_of(record("path=" + pax + ".jpg") + "21 mtime=1234567.125\n"), 'x');
  add_member(tar, "short", bytes_of("P"));
  add_member(tar, "x", bytes_of(record("path=" + pax + ".cls")), 'x');
  add_member(tar, "short", bytes_of("2"));
  end_archive(tar);
  const std::vector<TarSample> samples = tar_samples(tar, "some.tar");
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].key, gnu);
  EXPECT_EQ(samples[1].key, pax);
  EXPECT_EQ(samples[1].label, 2);
  EXPECT_EQ(tar[samples[1].offset], 'P');
}

TEST(Tar, EveryTruncationIsNoticed) {
  const Bytes tar = make_tar(2);
  EXPECT_EQ(tar_samples(tar, "a.tar").size(), 2u);
  const std::size_t end = tar.size() - 1024;  // one block of zeros is an end, none is not
  for (std::size_t size = 0; size < end + 512; size += size < 1600 ? 7 : 256) {
    const std::string text = sentence([&] { tar_samples(std::span(tar).first(size), "a.tar"); });
    EXPECT_SAYS(text, "a.tar: ");
    EXPECT_SAYS(text, "truncated");
  }
}

TEST(Tar, BrokenArchivesAreNamed) {
  Folder folder;
  const auto says = [&](const Bytes& tar) { return sentence([&] { open_archive(folder, tar); }); };
  const Bytes good = make_tar(2);
  Bytes bad = good;
  bad[3] ^= 1;
  EXPECT_SAYS(says(bad), "a.tar: not a tar header: checksum does not hold (at byte 0)");
  bad = good;
  bad.insert(bad.end(), good.begin(), good.end());
  EXPECT_SAYS(says(bad), "data after the end of the archive");
  EXPECT_SAYS(says({}), "truncated");
  EXPECT_SAYS(says(Bytes(1024)),
              "hold no sample; one is KEY.jpg, .jpeg or .png with KEY.cls or KEY.json");
  EXPECT_SAYS(sentence([&] { open_records("tar:" + folder.path("none*.tar"), Split::train); }),
              "no file matches");
  EXPECT_SAYS(sentence([&] { open_records("tar:" + folder.path(""), Split::train); }),
              "not a file");
}

TEST(Tar, EverySampleNeedsOneImageAndOneLabel) {
  const auto says = [](std::vector<std::pair<std::string, std::string>> members) {
    Bytes tar;
    for (const auto& [name, text] : members) add_member(tar, name, bytes_of(text));
    end_archive(tar);
    return sentence([&] { tar_samples(tar, "a.tar"); });
  };
  EXPECT_SAYS(says({{"k.jpg", "J"}}), "a.tar: k.cls is missing");
  EXPECT_SAYS(says({{"k.cls", "1"}}), "k.cls has no k.jpg");
  EXPECT_SAYS(says({{"k.jpg", "J"}, {"k.jpg", "J"}, {"k.cls", "1"}}), "comes twice");
  EXPECT_SAYS(says({{"k.jpg", "J"}, {"k.cls", "1"}, {"k.cls", "1"}}), "comes twice");
  for (const std::string label : {"", "cat", "1 2", "1.5", "0x1", "99999999999999999999"}) {
    EXPECT_SAYS(says({{"k.jpg", "J"}, {"k.cls", label}}), "k.cls: \"" + label.substr(0, 20));
  }
  for (const std::string label : {"-1", "1048576"}) {
    EXPECT_SAYS(says({{"k.jpg", "J"}, {"k.cls", label}}), "label " + label + " is not in");
  }
}

TEST(Tar, PngsAndJsonLabels) {
  Folder folder;
  Bytes tar;
  add_member(tar, "a.PNG", bytes_of("P"));
  add_member(tar, "a.json", bytes_of(R"({"caption": "x", "label": 12})"));
  add_member(tar, "b.json", bytes_of(R"({"cls": 3, "text": [[[]]]})"));
  add_member(tar, "b.JPEG", bytes_of("J"));
  add_member(tar, "c.jpg", bytes_of("J"));
  add_member(tar, "c.json", bytes_of("not JSON, and not looked at beside .cls"));
  add_member(tar, "c.cls", bytes_of("4"));
  add_member(tar, "about.json", bytes_of(R"({"license": "of the archive"})"));
  end_archive(tar);
  const Records records = open_archive(folder, tar);
  EXPECT_EQ(records.labels, (std::vector<std::int32_t>{12, 3, 4}));
  EXPECT_EQ(read(records, 0), bytes_of("P"));
}

TEST(Tar, JsonLabelsMustBeWholeNumbers) {
  const auto says = [](const std::string& json) {
    Bytes tar;
    add_member(tar, "k.jpg", bytes_of("J"));
    add_member(tar, "k.json", bytes_of(json));
    end_archive(tar);
    return sentence([&] { tar_samples(tar, "a.tar"); });
  };
  EXPECT_SAYS(says("{"), "a.tar: k.json: \"{\" is not JSON");
  EXPECT_SAYS(says("[1]"), "has no whole number \"label\" or \"cls\"");
  EXPECT_SAYS(says(R"({"label": "cat"})"), "\"label\" is no whole number");
  EXPECT_SAYS(says(R"({"cls": 1.5})"), "\"cls\" is no whole number");
  EXPECT_SAYS(says(R"({"label": -1})"), "label -1 is not in");
  EXPECT_SAYS(says(R"({"label": 18446744073709551615})"), "label 18446744073709551615 is not in");
  EXPECT_SAYS(says(std::string(100'000, '[')), "is not JSON");
}

TEST(Tar, AnImageIsOneFile) {
  Bytes tar;
  add_member(tar, "k.jpg", bytes_of("J"));
  add_member(tar, "k.png", bytes_of("P"));
  add_member(tar, "k.cls", bytes_of("1"));
  end_archive(tar);
  EXPECT_SAYS(sentence([&] { tar_samples(tar, "a.tar"); }), "k.png: this key comes twice");
}

TEST(Tar, SharedTarsHoldWhatTheirPageSays) {
  TUNAS_NEED_SHARED(folder, "caltech20");
  const Records train = open_records("tar:" + folder + "/train-*.tar", Split::train);
  EXPECT_EQ(train.size(), 1770);
  EXPECT_EQ(train.classes(), 20);
  EXPECT_EQ(open_records("tar:" + folder + "/val-000000.tar", Split::train).size(), 443);
  EXPECT_EQ(read(train, 1769)[0], 0xFF);
}

}  // namespace
}  // namespace tunas::data
