// The loader: the same batches for any number of workers, epochs that straddle batches, one pass,
// resuming, scaling.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "kernels/error.h"
#include "tests/data/loading.h"

namespace tunas::data {
namespace {

using testing::Bytes;
using testing::Folder;
using testing::keep;
using testing::Kept;
using testing::make_tar;
using testing::run;
using testing::samples;
using testing::sentence;
using testing::tar_records;
using testing::training;

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

TEST(Loader, SlicesShareOutTheBatchesOfOne) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(9));
  // Two ranks of three shards each, from the second step on.
  LoaderConfig config = training(4);
  config.start = 6 * 4;
  const auto whole = run(records, everything(9), config, 12);
  config.slice = {0, 3, 6};
  const auto first = run(records, everything(9), config, 6);
  config.slice.first = 3;
  const auto second = run(records, everything(9), config, 6);
  for (std::size_t b = 0; b < 12; ++b) {
    const auto& from = b / 3 % 2 == 0 ? first : second;
    EXPECT_EQ(from[b / 6 * 3 + b % 3], whole[b]) << b;
  }
}

TEST(Loader, SlicesOfOnePassHaveEachSampleOnce) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(9));
  for (const int ranks : {2, 3, 4, 7}) {
    std::vector<std::int64_t> all;
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderConfig config = evaluation_loader(2);
      config.slice = {rank, 1, ranks};
      Loader loader(records, everything(9), config);
      for (const Batch* batch = &loader.next(); batch->size() > 0; batch = &loader.next()) {
        EXPECT_EQ(batch->samples[0] / 2 % ranks, rank);
        all.insert(all.end(), batch->samples.begin(), batch->samples.end());
      }
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, everything(9));
  }
}

TEST(Loader, PngsUnderAnyName) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(4, [](int i, Bytes& image) {
                                        if (i == 2) image = testing::make_png({.seed = 2});
                                      }));
  Loader loader(records, everything(4), evaluation_loader(4));
  EXPECT_EQ(loader.next().size(), 4);
  EXPECT_TRUE(loader.skipped().empty());
}

TEST(Loader, ScalesOnlyWhereAskedAndLarge) {
  Folder folder;
  const Records records = tar_records(folder, make_tar(8));  // crops of 35 to 63 pixels
  LoaderConfig config = evaluation_loader(8);
  const Kept plain = run(records, everything(8), config, 1)[0];
  config.scaling = Scaling::dct;
  config.resolution = 16;
  EXPECT_EQ(plain, run(records, everything(8), config, 1)[0]) << "less than 4 * 16 pixels";
  config.resolution = 14;
  const Kept half = run(records, everything(8), config, 1)[0];
  int halved = 0;
  for (std::size_t i = 0; i < half.sides.size(); i += 3) {
    const bool large = plain.sides[i] >= 56;
    EXPECT_NEAR(half.sides[i], large ? plain.sides[i] / 2.0 : plain.sides[i], large ? 0.5 : 0);
    halved += large;
  }
  EXPECT_GT(halved, 0);
  config.resolution = 0;
  EXPECT_FALSE(sentence([&] { Loader(records, everything(8), config); }, Exit::usage).empty());
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
