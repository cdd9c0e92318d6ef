// Class folders as ImageFolder has them, ImageNet's validation folder with every file of labels,
// CIFAR-10's batches; and all the ways in which they can mislead.
#include "data/folder.h"

#include <gtest/gtest.h>

#include "data/cifar.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using namespace testing;
namespace fs = std::filesystem;

Bytes read(const Records& records, std::int64_t i) {
  Records::Scratch scratch;
  const Content content = records.read(i, scratch);
  return {content.bytes.begin(), content.bytes.end()};
}

class FolderTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& text = "J") const {
    fs::create_directories(fs::path(folder_.path(name)).parent_path());
    folder_.write(name, bytes_of(text));
  }
  std::string spec(const std::string& below = "") const { return "folder:" + folder_.path(below); }
  Records open(const std::string& below = "") const {
    return open_records(spec(below), Split::train);
  }
  std::string says(const std::string& below = "") const {
    return sentence([&] { open(below); });
  }

  Folder folder_;
};

// ---- class folders

TEST_F(FolderTest, SortedFoldersAreTheLabels) {
  for (const char* name :
       {"b/2.jpg", "b/10.JPEG", "a/z.png", "a/y.Jpg", "B/x.jpeg", "a/notes.txt", "README.md"}) {
    put(name, name);
  }
  const Records records = open();
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < records.size(); ++i) {
    names.push_back(records.name(i).substr(folder_.path("").size()));
    EXPECT_EQ(read(records, i), bytes_of(names.back()));
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"B/x.jpeg", "a/y.Jpg", "a/z.png", "b/10.JPEG", "b/2.jpg"}));
  EXPECT_EQ(records.labels, (std::vector<std::int32_t>{0, 1, 1, 2, 2}));
}

TEST_F(FolderTest, NestedFoldersComeInTheOrderOfImageFolder) {
  // sorted(os.walk(...)): by the whole path of the folder, in which '-' stands before '/'.
  for (const char* name : {"a/s/1.jpg", "a/s-t/2.jpg", "a/3.jpg", "a/s/u/4.jpg"}) put(name);
  const Records records = open();
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < records.size(); ++i) {
    names.push_back(records.name(i).substr(folder_.path("a/").size()));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"3.jpg", "s/1.jpg", "s-t/2.jpg", "s/u/4.jpg"}));
}

TEST_F(FolderTest, LinksAreFollowedUnlessTheyLeadBack) {
  put("data/a/1.jpg", "through a link");
  fs::create_directories(folder_.path("set"));
  fs::create_directory_symlink(folder_.path("data/a"), folder_.path("set/a"));
  EXPECT_EQ(read(open("set"), 0), bytes_of("through a link"));
  fs::create_directory_symlink("..", folder_.path("data/a/back"));
  EXPECT_SAYS(says("data"), "does a link lead back");
}

TEST_F(FolderTest, WhatMisleadsIsRefused) {
  EXPECT_SAYS(says("none"), "none: cannot be listed");
  EXPECT_SAYS(says(), "holds neither class folders nor");
  put("a/1.jpg");
  fs::create_directories(folder_.path("b"));
  EXPECT_SAYS(says(), "/b: a class without images");
  put("b/1.webp");
  EXPECT_SAYS(says(), "/b/1.webp: only JPEG and PNG");
  fs::remove(folder_.path("b/1.webp"));
  put("b/1.jpg");
  EXPECT_EQ(open().size(), 2);
  put("stray.jpg");
  EXPECT_SAYS(says(), "stray.jpg: an image beside class folders");
  put("set/train/a/1.jpg");
  put("set/val/a/1.jpg");
  EXPECT_SAYS(says("set"), "as in folder:" + folder_.path("set/train"));
}

TEST_F(FolderTest, AFileThatWentIsAnErrorOfItsRecord) {
  put("a/1.jpg");
  put("a/2.jpg", "second");
  const Records records = open();
  fs::remove(folder_.path("a/1.jpg"));
  EXPECT_SAYS(sentence([&] { read(records, 0); }), "cannot be opened (No such file");
  EXPECT_EQ(read(records, 1), bytes_of("second"));
}

// ---- ImageNet's validation folder

/// n00000000, n00000010, ...: the synset with label i.
std::string synset(int i) {
  char text[10];
  std::snprintf(text, sizeof text, "n%08d", 10 * i);
  return text;
}

class ValidationFolder : public FolderTest {
 protected:
  ValidationFolder() {
    for (const char* number : {"00000001", "00000002", "00000003"}) {
      put(std::string("val/ILSVRC2012_val_") + number + ".JPEG");
    }
  }
  std::vector<std::int32_t> labels() const { return open("val").labels; }
};

using Labels = std::vector<std::int32_t>;

TEST_F(ValidationFolder, LabelsOfNames) {
  put("val.txt",
      "ILSVRC2012_val_00000002.JPEG 970\r\n"
      "val/ILSVRC2012_val_00000001.JPEG 65\n\n# and images that are not here\n"
      "ILSVRC2012_val_00000003.JPEG 230\nILSVRC2012_val_00000009.JPEG 1");
  EXPECT_EQ(labels(), (Labels{65, 970, 230})) << "from the parent folder";
  put("val/val.txt", "ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000002.JPEG 2\n");
  EXPECT_SAYS(says("val"), "00000003.JPEG: has no label in ");
  put("other.txt",
      "ILSVRC2012_val_00000001.JPEG 7\nILSVRC2012_val_00000002.JPEG 8\n"
      "ILSVRC2012_val_00000003.JPEG 9\n");
  EXPECT_EQ(open("val,labels=" + folder_.path("other.txt")).labels, (Labels{7, 8, 9}));
}

TEST_F(ValidationFolder, LabelsOfKagglesSolution) {
  std::string text = "ImageId,PredictionString\n";
  for (int i = 999; i >= 0; --i) {
    text += "ILSVRC2012_val_" + std::to_string(10000001 + i) + "," + synset(i) + " 1 2 3 4 \n";
  }
  text += "ILSVRC2012_val_00000003," + synset(5) + " 85 1 499 272 " + synset(5) + " 1 2 3 4\n";
  text += "ILSVRC2012_val_00000001," + synset(700) + " 85 1 499 272 \n";
  text += "ILSVRC2012_val_00000002," + synset(0) + " 85 1 499 272 \n";
  put("LOC_val_solution.csv", text);
  EXPECT_EQ(labels(), (Labels{700, 0, 5}));
}

TEST_F(ValidationFolder, LabelsOfASynsetALine) {
  std::string text = synset(3) + "\n" + synset(999) + "\n" + synset(0) + "\n";
  const std::string first = text;
  for (int i = 0; i < 1000; ++i) text += synset(i) + "\n";
  put("imagenet_2012_validation_synset_labels.txt", text);
  EXPECT_EQ(labels(), (Labels{3, 999, 0}));
  put("imagenet_2012_validation_synset_labels.txt", first);
  EXPECT_SAYS(says("val"), "names 3 synsets, not ImageNet's 1000");
}

TEST_F(ValidationFolder, IdsNeedTheirMap) {
  put("ILSVRC2012_validation_ground_truth.txt", "490\n361\n1000\n");
  EXPECT_SAYS(says("val"), "ILSVRC2012_IDs are not in the order of the synsets");
  EXPECT_SAYS(says("val"), "map_clsloc.txt");
  std::string map;
  for (int id = 1; id <= 1000; ++id) {
    map += synset(1000 - id) + " " + std::to_string(id) + " some_name\n";
  }
  put("map_clsloc.txt", map);
  EXPECT_EQ(labels(), (Labels{510, 639, 0}));
  put("map_clsloc.txt", map + synset(7) + " 4 again\n");
  EXPECT_SAYS(says("val"), "line 1001: is not SYNSET ID NAME with ids 1 to 1000, each once");
  put("map_clsloc.txt", map.substr(0, map.size() - 20));
  EXPECT_SAYS(says("val"), "map_clsloc.txt beside ");
}

TEST_F(ValidationFolder, WithoutLabelsNothingIsGuessed) {
  EXPECT_SAYS(says("val"), "val.txt, LOC_val_solution.csv, imagenet_2012_validation_synset_labels");
  EXPECT_SAYS(says("val"), ",labels=FILE");
  EXPECT_SAYS(says("val,labels=" + folder_.path("none")), "none: cannot be read");
}

TEST_F(ValidationFolder, WrongLinesAreNamed) {
  const auto said = [&](const std::string& text) {
    put("val.txt", text);
    return says("val");
  };
  EXPECT_SAYS(said(""), "val.txt: holds no labels");
  EXPECT_SAYS(said("a b c\n"), "val.txt line 1: \"a b c\" is neither NAME LABEL");
  EXPECT_SAYS(said("a.JPEG 1\nb.JPEG x\n"), "line 2: \"b.JPEG x\" is not NAME LABEL");
  EXPECT_SAYS(said("a.JPEG 1\na.JPEG 1\n"), "line 2: \"a.JPEG 1\" is an image named twice");
  EXPECT_SAYS(said("a.JPEG -1\n"), "line 1: label -1 is not in 0");
  EXPECT_SAYS(said("ImageId,PredictionString\na,cat 1 2 3 4\n"),
              "line 2: \"a,cat 1 2 3 4\" is not");
  EXPECT_SAYS(said(synset(1) + "\nn1\n"), "line 2: \"n1\" is not one synset");
  put("val/mine.JPEG");
  std::string all;
  for (int i = 0; i < 1000; ++i) all += synset(i) + "\n";
  EXPECT_SAYS(said(all), "mine.JPEG: has no number");
}

// ---- CIFAR-10

Bytes cifar_batch(int count, int seed) {
  Bytes bytes;
  for (int i = 0; i < count; ++i) {
    bytes.push_back(static_cast<std::uint8_t>((seed + i) % 10));
    for (int c = 0; c < 3; ++c) {
      for (int p = 0; p < 1024; ++p) {
        bytes.push_back(static_cast<std::uint8_t>(seed + 50 * c + p % 7));
      }
    }
  }
  return bytes;
}

TEST(Cifar, PlanesBecomePixels) {
  Folder folder;
  for (int i = 1; i <= 5; ++i) {
    folder.write("data_batch_" + std::to_string(i) + ".bin", cifar_batch(2, i));
  }
  folder.write("test_batch.bin", cifar_batch(3, 9));
  const Records records = open_records("cifar10:" + folder.path(""), Split::train);
  EXPECT_EQ(records.labels, (std::vector<std::int32_t>{1, 2, 2, 3, 3, 4, 4, 5, 5, 6}));
  EXPECT_EQ(open_records("cifar10:" + folder.path(""), Split::test).size(), 3);
  Records::Scratch scratch;
  const Content content = records.read(7, scratch);
  EXPECT_EQ(content.h, 32);
  EXPECT_EQ(content.w, 32);
  EXPECT_EQ(content.channels, 3);
  ASSERT_EQ(content.bytes.size(), 3072u);
  for (int p = 0; p < 1024; ++p) {
    for (int c = 0; c < 3; ++c) {
      EXPECT_EQ(content.bytes[static_cast<std::size_t>(3 * p + c)], 4 + 50 * c + p % 7);
    }
  }
  EXPECT_TRUE(records.name(7).ends_with("data_batch_4.bin: 1 (at byte 3073)")) << records.name(7);
}

TEST(Cifar, BrokenBatchesAreNamed) {
  Folder folder;
  const auto says = [&] {
    return sentence([&] { open_records("cifar10:" + folder.path(""), Split::test); });
  };
  EXPECT_SAYS(says(), "test_batch.bin: not found; unpack cifar-10-binary.tar.gz");
  folder.write("test_batch.bin", Bytes(3072));
  EXPECT_SAYS(says(), "test_batch.bin: holds 3072 bytes");
  folder.write("test_batch.bin", {});
  EXPECT_SAYS(says(), "test_batch.bin: holds 0 bytes");
  Bytes bad = cifar_batch(2, 1);
  bad[3073] = 10;
  folder.write("test_batch.bin", bad);
  EXPECT_SAYS(says(), "label 10 is not in 0..9 (at byte 3073)");
}

}  // namespace
}  // namespace tunas::data
