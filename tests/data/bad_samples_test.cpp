// The loader and samples that cannot be read or decoded: left out, replaced, named.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "data/loader.h"
#include "kernels/error.h"
#include "tests/data/loading.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::Folder;
using testing::keep;
using testing::Kept;
using testing::make_tar;
using testing::sentence;
using testing::tar_records;
using testing::training;

TEST(BadSamples, EndlessRunsReplaceBadSamplesAndNothingElse) {
  Folder folder;
  const Bytes good = make_tar(12);
  const Bytes damaged = make_tar(12, [](int i, Bytes& jpeg) {
    if (i == 3) jpeg[1] = 0;                   // found when planning
    if (i == 7) jpeg.resize(jpeg.size() / 2);  // found when decoding
  });
  const Records bad_records = tar_records(folder, damaged);
  folder.write("good.tar", good);
  const Records good_records = open_records("tar:" + folder.path("good.tar"), Split::train);
  LoaderConfig config = training(12);
  config.crops = Crops::central;  // reaches the damage every time
  Loader loader(bad_records, everything(12), config);
  Loader twin(good_records, everything(12), config);
  for (std::uint32_t epoch = 0; epoch < 3; ++epoch) {
    const Kept got = keep(loader.next()), want = keep(twin.next());
    ASSERT_EQ(got.samples.size(), 12u);
    const Permutation order(12, {42, Purpose::order, epoch, 0});
    for (int i = 0; i < 12; ++i) {
      int place = i;
      while (order(place) == 3 || order(place) == 7) place = (place + 1) % 12;
      EXPECT_EQ(got.samples[i], order(place));
      EXPECT_EQ(got.labels[i], order(place) % 5);
      EXPECT_EQ(got.pixels[i], want.pixels[place]);
    }
  }
  ASSERT_EQ(loader.skipped().size(), 2u);
  for (const Skipped& bad : loader.skipped()) {
    // Where the order has them next to each other, one is met again in the other's place.
    EXPECT_GE(bad.times, 3);
    EXPECT_EQ(bad.name, bad_records.name(bad.sample));
    EXPECT_FALSE(bad.reason.empty());
  }
}

TEST(BadSamples, OnePassLeavesBadSamplesOut) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(9, [](int i, Bytes& jpeg) {
                                        if (i >= 3 && i < 6)
                                          jpeg.resize(i == 4 ? 0 : jpeg.size() / 4);
                                      }));
  Loader loader(records, everything(9), evaluation_loader(3));
  EXPECT_EQ(loader.next().samples, (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_TRUE(loader.skipped().empty());
  // The whole second batch is bad; an empty one would look like the end.
  EXPECT_EQ(loader.next().samples, (std::vector<std::int64_t>{6, 7, 8}));
  EXPECT_EQ(loader.next().size(), 0);
  ASSERT_EQ(loader.skipped().size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(loader.skipped()[i].sample, 3 + i);
}

/// Samples 3 (header) and 7 (pixels) of twelve are damaged.
Records damaged_records(const Folder& folder) {
  return tar_records(folder, make_tar(12, [](int i, Bytes& jpeg) {
                       if (i == 3) jpeg[1] = 0;
                       if (i == 7) jpeg.resize(jpeg.size() / 2);
                     }));
}

TEST(BadSamples, ReplacedSamplesAreGreyAndKeepPlaceAndLabel) {
  Folder folder;
  const Records records = damaged_records(folder);
  for (const Passes passes : {Passes::endless, Passes::one}) {
    LoaderConfig config = training(5);
    config.on_bad = OnBad::replace;
    config.crops = Crops::central;
    config.passes = passes;
    Loader loader(records, everything(12), config);
    for (std::int64_t first = 0; first < 12; first += 5) {
      const Batch& batch = loader.next();
      ASSERT_EQ(batch.size(),
                passes == Passes::endless ? 5 : std::min<std::int64_t>(5, 12 - first));
      for (int i = 0; i < batch.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t position = first + i, sample = batch.samples[at];
        const Permutation order(12, {42, Purpose::order, position >= 12, 0});
        EXPECT_EQ(sample, order(position % 12));
        EXPECT_EQ(batch.labels[at], sample % 5);
        const Crop& crop = batch.crops[at];
        const bool grey =
            std::all_of(batch.pixels + crop.offset, batch.pixels + crop.offset + crop.bytes(),
                        [](std::uint8_t byte) { return byte == kFill; });
        EXPECT_EQ(grey, sample == 3 || sample == 7) << sample;
      }
    }
    ASSERT_EQ(loader.skipped().size(), 2u);
    for (const Skipped& bad : loader.skipped()) EXPECT_EQ(bad.done, OnBad::replace);
  }
}

TEST(BadSamples, FailNamesTheSampleTheByteAndTheReason) {
  Folder folder;
  const Records records = damaged_records(folder);
  Records::Scratch scratch;
  LoaderConfig config = evaluation_loader(6);
  config.on_bad = OnBad::fail;
  const auto failure = [&](const Subset& subset) {
    Loader loader(records, subset, config);
    sentence([&] { loader.next(); });
    return sentence([&] { loader.next(); });
  };
  const auto expected = [&](std::int64_t sample, const std::string& reason, bool at_end) {
    const std::string bytes = std::to_string(records.read(sample, scratch).bytes.size());
    return records.name(sample) + ": " + reason + " (byte " + (at_end ? bytes : "0") + " of " +
           bytes + " of the image); --on-bad-sample skip or replace goes on without it";
  };
  EXPECT_EQ(failure({1, 3, 5}),
            expected(3, "it is neither JPEG nor PNG: it begins with FF 00 FF E0", false));
  EXPECT_EQ(failure({1, 7, 5}), expected(7, "Premature end of JPEG file", true));
  Loader whole(records, {0, 1, 2}, config);
  EXPECT_EQ(whole.next().size(), 3);
}

TEST(BadSamples, GivesUpReplacingWhereNothingDecodes) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(6, [](int, Bytes& jpeg) { jpeg[0] = 0; }));
  LoaderConfig config = training(30);
  config.on_bad = OnBad::replace;
  Loader loader(records, everything(6), config);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(loader.next().size(), 30);
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(sentence([&] { loader.next(); }).find("100 samples in a row"), std::string::npos);
  }
}

/// A record whose file cannot be read any more is a bad sample like any other.
TEST(BadSamples, RecordsThatCannotBeReadAreBadSamples) {
  Records records = open_records("synthetic:8x8x6", Split::train);
  const auto content = records.content;
  records.content = [content](std::int64_t i, Records::Scratch& scratch) {
    if (i == 2) fail(Exit::data, "its file is gone");
    return content(i, scratch);
  };
  Loader loader(records, everything(6), evaluation_loader(6));
  EXPECT_EQ(loader.next().samples, (std::vector<std::int64_t>{0, 1, 3, 4, 5}));
  ASSERT_EQ(loader.skipped().size(), 1u);
  EXPECT_EQ(loader.skipped()[0].text(), records.name(2) + ": its file is gone");
}

TEST(BadSamples, GivesUpWhereNothingDecodes) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(6, [](int, Bytes& jpeg) { jpeg[0] = 0; }));
  Loader loader(records, everything(6), training(2));
  for (int i = 0; i < 2; ++i) {
    const std::string text = sentence([&] { loader.next(); });
    EXPECT_NE(text.find("6 samples in a row"), std::string::npos) << text;
    EXPECT_NE(text.find("a.tar: k"), std::string::npos) << text;
  }
}

TEST(BadSamples, WhatAWorkerThrowsArrivesWithItsBatch) {
  Records records = open_records("synthetic:8x8x8", Split::train);
  const auto content = records.content;
  records.content = [content](std::int64_t i, Records::Scratch& scratch) {
    if (i == 5) throw std::runtime_error("disk gone");
    return content(i, scratch);
  };
  LoaderConfig config = evaluation_loader(2);
  config.workers = 3;
  Loader loader(records, everything(8), config);
  EXPECT_EQ(loader.next().size(), 2);
  EXPECT_EQ(loader.next().size(), 2);
  EXPECT_THROW(loader.next(), std::runtime_error);
  EXPECT_THROW(loader.next(), std::runtime_error);
}

}  // namespace
}  // namespace tunas::data
