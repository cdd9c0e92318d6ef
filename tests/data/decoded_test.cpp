// A decoded set hands out the batches of a loader, pixel by pixel, wherever it keeps them.
#include "data/decoded.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/error.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

LoaderConfig shuffled(int batch) {
  LoaderConfig config;
  config.batch = batch;
  config.crops = Crops::central;
  config.seed = 9;
  return config;
}

void expect_same(const Batch& a, const Batch& b) {
  ASSERT_EQ(a.samples, b.samples);
  ASSERT_EQ(a.labels, b.labels);
  for (std::size_t i = 0; i < a.crops.size(); ++i) {
    const Crop &x = a.crops[i], &y = b.crops[i];
    ASSERT_EQ(x.h, y.h);
    ASSERT_EQ(x.w, y.w);
    ASSERT_EQ(x.flip, y.flip);
    ASSERT_EQ(x.bytes(), y.bytes());
    ASSERT_EQ(std::memcmp(a.pixels + x.offset, b.pixels + y.offset, x.bytes()), 0) << "image " << i;
  }
}

TEST(DecodedSet, HandsOutTheBatchesOfALoader) {
  const Records records = open_records("synthetic:9x7x23", Split::train);
  const engine::Device device = engine::Device::cpu(1);
  const Subset subset = {1, 2, 5, 8, 9, 13, 20, 21, 22};
  for (const auto place : {engine::Place::host, engine::Place::device}) {
    Loader loader(records, subset, shuffled(4));
    DecodedSet set(records, subset, device, {4, 9, 2, place});
    EXPECT_EQ(set.bytes(), 9u * 128) << "6 x 6 of 9 x 7 pixels each, aligned";
    for (int i = 0; i < 12; ++i) expect_same(set.next(), loader.next());
  }
}

TEST(DecodedSet, SlicesAsALoaderDoes) {
  const Records records = open_records("synthetic:9x7x23", Split::train);
  const engine::Device device = engine::Device::cpu(1);
  LoaderConfig config = shuffled(4);
  config.start = 24;
  config.slice = {2, 2, 6};
  Loader loader(records, everything(23), config);
  DecodedSet set(records, everything(23), device,
                 {4, 9, 2, engine::Place::host, OnBad::skip, config.start, config.slice});
  for (int i = 0; i < 12; ++i) expect_same(set.next(), loader.next());
}

TEST(DecodedSet, OthersStandInForBadSamples) {
  Records records = open_records("synthetic:8x8x12", Split::train);
  const auto good = records.content;
  records.content = [good](std::int64_t index, Records::Scratch& scratch) {
    return index % 3 == 1 ? Content{{}, 0, 0, 0} : good(index, scratch);
  };
  const engine::Device device = engine::Device::cpu(1);
  Loader loader(records, everything(12), shuffled(5));
  DecodedSet set(records, everything(12), device, {5, 9, 1, engine::Place::host});
  EXPECT_EQ(set.skipped().size(), 4u);
  for (int i = 0; i < 9; ++i) expect_same(set.next(), loader.next());
}

TEST(DecodedSet, ReplacesAndFailsAsALoaderDoes) {
  Records records = open_records("synthetic:8x8x12", Split::train);
  const auto good = records.content;
  records.content = [good](std::int64_t index, Records::Scratch& scratch) {
    return index == 4 ? Content{{}, 0, 0, 0} : good(index, scratch);
  };
  const engine::Device device = engine::Device::cpu(1);
  LoaderConfig config = shuffled(5);
  config.on_bad = OnBad::replace;
  Loader loader(records, everything(12), config);
  DecodedSet set(records, everything(12), device, {5, 9, 1, engine::Place::host, config.on_bad});
  EXPECT_EQ(set.skipped().size(), 1u);
  for (int i = 0; i < 9; ++i) expect_same(set.next(), loader.next());
  EXPECT_THROW(
      DecodedSet(records, everything(12), device, {5, 9, 1, engine::Place::host, OnBad::fail}),
      Error);
}

TEST(DecodedSet, NothingButBadSamplesIsAnError) {
  Records records = open_records("synthetic:8x8x4", Split::train);
  records.content = [](std::int64_t, Records::Scratch&) { return Content{{}, 0, 0, 0}; };
  const engine::Device device = engine::Device::cpu(1);
  EXPECT_THROW(DecodedSet(records, everything(4), device, {2, 0, 1, engine::Place::host}), Error);
}

}  // namespace
}  // namespace tunas::data
