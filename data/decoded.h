// DecodedSet: held-out images decoded once, in the host's or in the device's memory. It hands out
// the very batches of an endless, shuffled Loader with central crops, whose pixels never change.
//
// Pixels are kept at the size of their crop, because resampling gives numbers between bytes: the
// set costs 3*h*w bytes an image (ImageNet: 0.3 MB), and results are the same bits.
#pragma once

#include <functional>
#include <vector>

#include "data/loader.h"

namespace tunas::data {

struct DecodedConfig {
  int batch = 0;
  std::uint64_t seed = 0;  // of the order
  int workers = 1;
  engine::Place place = engine::Place::host;
  OnBad on_bad = OnBad::skip;
  std::int64_t start = 0;  // as LoaderConfig's
  Slice slice = {};
};

class DecodedSet {
 public:
  /// Decodes all of `subset`, calling progress(images done) now and then. Error(memory) where they
  /// will not fit, said after the first images. `device` must outlive the set.
  DecodedSet(const Records& records, const Subset& subset, const engine::Device& device,
             const DecodedConfig& config, const std::function<void(std::int64_t)>& progress = {});

  /// The next batch; valid until the next call.
  const Batch& next();

  std::size_t bytes() const;
  /// Samples that could not be decoded; what DecodedConfig::on_bad says took their places.
  const std::vector<Skipped>& skipped() const { return skipped_; }

 private:
  struct Image {
    Crop crop;  // offset: from the first chunk
    std::int32_t label = 0;
    bool present = false;
  };
  void keep(const Batch& batch);
  void check_room(std::int64_t done) const;

  const engine::Device& device_;
  const Subset subset_;
  const DecodedConfig config_;
  std::vector<engine::Memory> chunks_;
  std::size_t used_ = 0;       // of the newest chunk
  std::vector<Image> images_;  // in the order of subset_
  std::vector<Skipped> skipped_;
  std::int64_t handed_out_ = 0;  // batches
  Batch out_;
};

}  // namespace tunas::data
