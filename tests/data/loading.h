// For the tests of the loader: its configuration, and what its batches hold.
#pragma once

#include <string>
#include <vector>

#include "data/loader.h"
#include "tests/data/samples.h"

namespace tunas::data::testing {

inline LoaderConfig training(int batch, int workers = 2) {
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

inline Kept keep(const Batch& batch) {
  Kept kept = {batch.samples, batch.labels, {}, {}};
  for (const Crop& crop : batch.crops) {
    EXPECT_EQ(crop.stride, 3 * crop.w);
    const std::uint8_t* first = batch.pixels + crop.offset;
    kept.pixels.emplace_back(first, first + 3L * crop.h * crop.w);
    kept.sides.insert(kept.sides.end(), {crop.h, crop.w, crop.flip});
  }
  return kept;
}

inline std::vector<Kept> run(const Records& records, const Subset& subset,
                             const LoaderConfig& config, int batches) {
  Loader loader(records, subset, config);
  std::vector<Kept> all;
  for (int i = 0; i < batches; ++i) all.push_back(keep(loader.next()));
  return all;
}

inline std::vector<std::int64_t> samples(const std::vector<Kept>& batches) {
  std::vector<std::int64_t> all;
  for (const Kept& batch : batches)
    all.insert(all.end(), batch.samples.begin(), batch.samples.end());
  return all;
}

inline Records tar_records(const Folder& folder, const Bytes& tar) {
  folder.write("a.tar", tar);
  return open_records("tar:" + folder.path("a.tar"), Split::train);
}

}  // namespace tunas::data::testing
