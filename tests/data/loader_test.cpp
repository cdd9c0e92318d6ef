// The loader: the same batches for any number of workers, epochs that straddle batches, one pass,
// bad samples, errors, resuming.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>

#include "kernels/error.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::Folder;
using testing::make_tar;
using testing::sentence;

LoaderConfig training(int batch, int workers = 2) {
  LoaderConfig config;
  config.batch = batch;
  config.workers = workers;
  config.seed = 42;
  return config;
}

/// What a batch holds, without where it lies.
struct Kept {
  std::vector<std::int64_t> samples;
  std::vector<std::int32_t> labels;
  std::vector<Bytes> pixels;
  std::vector<int> sides;  // h, w, flip
  bool operator==(const Kept&) const = default;
};

Kept keep(const Batch& batch) {
  Kept kept = {batch.samples, batch.labels, {}, {}};
  for (const Crop& crop : batch.crops) {
    EXPECT_EQ(crop.stride, 3 * crop.w);
    const std::uint8_t* first = batch.pixels + crop.offset;
    kept.pixels.emplace_back(first, first + 3L * crop.h * crop.w);
    kept.sides.insert(kept.sides.end(), {crop.h, crop.w, crop.flip});
  }
  return kept;
}

std::vector<Kept> run(const Records& records, const Subset& subset, const LoaderConfig& config,
                      int batches) {
  Loader loader(records, subset, config);
  std::vector<Kept> all;
  for (int i = 0; i < batches; ++i) all.push_back(keep(loader.next()));
  return all;
}

std::vector<std::int64_t> samples(const std::vector<Kept>& batches) {
  std::vector<std::int64_t> all;
  for (const Kept& batch : batches)
    all.insert(all.end(), batch.samples.begin(), batch.samples.end());
  return all;
}

Records tar_records(const Folder& folder, const Bytes& tar) {
  folder.write("a.tar", tar);
  return open_records("tar:" + folder.path("a.tar"), Split::train);
}

TEST(Loader, SameBatchesForAnyNumberOfWorkersAndPrefetch) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(23, [](int i, Bytes& jpeg) {
                                        if (i == 4) jpeg.resize(jpeg.size() / 3);
                                        if (i == 9) jpeg.resize(20);
                                      }));
  const auto one = run(records, everything(23), training(5, 1), 12);
  for (const int workers : {2, 3}) {
    for (const int prefetch : {1, 4}) {
      LoaderConfig config = training(5, workers);
      config.prefetch = prefetch;
      EXPECT_EQ(run(records, everything(23), config, 12), one) << workers << ' ' << prefetch;
    }
  }
}

TEST(Loader, AnEpochIsEverySampleOnceAndBatchesStraddle) {
  const Records records = open_records("synthetic:8x8x17", Split::train);
  const auto all = samples(run(records, everything(17), training(5), 17));  // 85 = 5 epochs
  ASSERT_EQ(all.size(), 85u);
  std::set<std::vector<std::int64_t>> orders;
  for (int epoch = 0; epoch < 5; ++epoch) {
    const std::vector<std::int64_t> order(all.begin() + 17 * epoch, all.begin() + 17 * (epoch + 1));
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), 17u);
    const Permutation expected(17, {42, Purpose::order, static_cast<std::uint32_t>(epoch), 0});
    for (int i = 0; i < 17; ++i) EXPECT_EQ(order[i], expected(i));
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5u);
}

TEST(Loader, ABatchLargerThanTheSetHoldsSeveralEpochs) {
  const Records records = open_records("synthetic:8x8x3", Split::train);
  const auto all = samples(run(records, everything(3), training(10), 1));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(std::count(all.begin(), all.begin() + 9, i), 3);
}

TEST(Loader, CropsAreThoseOfRandomView) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(11));
  Loader loader(records, everything(11), training(11));
  Decoder decoder;
  Records::Scratch scratch;
  for (std::uint32_t epoch = 0; epoch < 2; ++epoch) {
    const Batch& batch = loader.next();
    for (int i = 0; i < batch.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int64_t sample = batch.samples[at];
      EXPECT_EQ(batch.labels[at], sample % 5);
      const Size image = decoder.open(records.read(sample, scratch));
      const View view = random_view(image, {}, {42, epoch, sample});
      Bytes rgb(3UL * view.region.h * view.region.w);
      decoder.read(view.region, rgb.data());
      const Crop& crop = batch.crops[at];
      EXPECT_EQ(crop.flip, view.flip);
      ASSERT_EQ(3UL * crop.h * crop.w, rgb.size());
      EXPECT_TRUE(std::equal(rgb.begin(), rgb.end(), batch.pixels + crop.offset));
    }
  }
}

TEST(Loader, OnePassEndsWithAShortBatchAndThenNothing) {
  const Records records = open_records("synthetic:16x8x11", Split::test);
  const Subset subset = {1, 4, 5, 8, 10};
  Loader loader(records, subset, evaluation_loader(2));
  for (const std::vector<std::int64_t>& expected :
       {std::vector<std::int64_t>{1, 4}, {5, 8}, {10}, {}, {}}) {
    const Batch& batch = loader.next();
    EXPECT_EQ(batch.samples, expected);
    EXPECT_EQ(batch.size(), static_cast<int>(expected.size()));
    for (const Crop& crop : batch.crops) {
      EXPECT_EQ(crop.h, 7);
      EXPECT_EQ(crop.w, 7);
      EXPECT_FALSE(crop.flip);
    }
  }
  EXPECT_EQ(loader.position(), 5);
  EXPECT_TRUE(loader.skipped().empty());
}

TEST(Loader, ContinuesWhereItStopped) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(9));
  const auto whole = run(records, everything(9), training(4), 9);
  LoaderConfig config = training(4);
  {
    Loader first(records, everything(9), config);
    for (int i = 0; i < 5; ++i) first.next();
    EXPECT_EQ(first.position(), 20);
    config.start = first.position();
  }
  const auto rest = run(records, everything(9), config, 4);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), whole.begin() + 5));
}

TEST(Loader, EndlessRunsReplaceBadSamplesAndNothingElse) {
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

TEST(Loader, OnePassLeavesBadSamplesOut) {
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

TEST(Loader, GivesUpWhereNothingDecodes) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(6, [](int, Bytes& jpeg) { jpeg[0] = 0; }));
  Loader loader(records, everything(6), training(2));
  for (int i = 0; i < 2; ++i) {
    const std::string text = sentence([&] { loader.next(); });
    EXPECT_NE(text.find("6 samples in a row"), std::string::npos) << text;
    EXPECT_NE(text.find("a.tar: k"), std::string::npos) << text;
  }
}

TEST(Loader, WhatAWorkerThrowsArrivesWithItsBatch) {
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

TEST(Loader, StopsPromptlyAndMeasuresItsStalls) {
  Records records = open_records("synthetic:8x8x1000", Split::train);
  const auto content = records.content;
  records.content = [content](std::int64_t i, Records::Scratch& scratch) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return content(i, scratch);
  };
  const auto begin = std::chrono::steady_clock::now();
  {
    Loader loader(records, everything(1000), training(4, 3));
    loader.next();
    EXPECT_GT(loader.stalls(), 0.005);
  }
  // A thousand samples would take a second and more.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(700));
}

TEST(Loader, ABatchStaysUntilTheNextCall) {
  const Records records = open_records("synthetic:64x64x40", Split::train);
  Loader loader(records, everything(40), training(4, 3));
  for (int i = 0; i < 10; ++i) {
    const Batch& batch = loader.next();
    const Kept before = keep(batch);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers run ahead
    EXPECT_EQ(keep(batch), before);
  }
}

TEST(Loader, SteadyStepsReuseTheirMemory) {
  const Records records = open_records("synthetic:64x64x64", Split::train);
  LoaderConfig config = training(8);
  config.crops = Crops::central;
  Loader loader(records, everything(64), config);
  std::set<const void*> memory;
  for (int i = 0; i < 30; ++i) {
    const Batch& batch = loader.next();
    if (i >= 3) memory.insert({batch.pixels, batch.crops.data(), batch.labels.data()});
  }
  EXPECT_EQ(memory.size(), 9u);  // three slots, three arrays
}

TEST(Loader, RefusesConfigsThatMakeNoSense) {
  const Records records = open_records("synthetic:8x8x4", Split::train);
  const auto refused = [&](const Subset& subset, const LoaderConfig& config) {
    return sentence([&] { Loader(records, subset, config); }, Exit::usage);
  };
  LoaderConfig negative = training(2);
  negative.start = -1;
  LoaderConfig rule = training(2);
  rule.rule.min_area = 2;
  EXPECT_FALSE(refused({}, training(2)).empty());
  EXPECT_FALSE(refused({4}, training(2)).empty());
  EXPECT_FALSE(refused({0}, training(0)).empty());
  EXPECT_FALSE(refused({0}, training(2, 0)).empty());
  EXPECT_FALSE(refused({0}, negative).empty());
  EXPECT_FALSE(refused({0}, rule).empty());
}

TEST(Loader, AllSharedPhotosDecode) {
  TUNAS_NEED_SHARED(imagenet, "imagenet_sample");
  const Records records = open_records("tar:" + imagenet + "/*.tar", Split::train);
  ASSERT_EQ(records.size(), 500);
  Loader loader(records, everything(500), evaluation_loader(64));
  int count = 0;
  while (const int got = loader.next().size()) count += got;
  EXPECT_EQ(count, 500);
  EXPECT_TRUE(loader.skipped().empty());
}

}  // namespace
}  // namespace tunas::data
