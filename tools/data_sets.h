// Which images a run trains on and which it holds out, and their loaders.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "data/loader.h"
#include "engine/comm.h"
#include "engine/device.h"
#include "search/space.h"
#include "tools/config.h"

namespace tunas::tools {

/// --data, --val-data, --holdout, --classes, --on-bad-sample.
std::vector<Option> data_options();
Option data_option();
Option min_area_option();
/// --on-bad-sample, and what it says.
Option bad_sample_option();
data::OnBad on_bad_sample(const Config& config);
/// --device, --precision, --kernels, --threads.
std::vector<Option> compute_options();
/// The same and --workers.
std::vector<Option> machine_options();

/// A part of some records.
struct ImageSet {
  std::shared_ptr<const data::Records> records;
  data::Subset subset;  // may be empty

  std::int64_t size() const { return static_cast<std::int64_t>(subset.size()); }
};

struct ImageSets {
  ImageSet train, held_out;
};

/// --val-data names the held-out images; otherwise --holdout of --data are held out, a tenth where
/// nothing is said: the same ones for every --seed, so runs can be compared.
/// Error(Exit::data) for data that is missing, broken or empty.
ImageSets open_image_sets(const Config& config);
/// All images of one data set.
ImageSet open_image_set(const std::string& spec, data::Split split);

/// `space` with the classes that --classes says or, for a published space and data of fewer than
/// ImageNet's 1000 classes, that the data has, held-out images included. Error(Exit::data) where a
/// label does not fit.
search::Space with_classes(const search::Space& space, const Config& config, const ImageSets& sets);

/// Records what --resolution, --classes and --holdout came to, for config.json.
void settle_images(Config& config, const search::Space& space, const ImageSets& sets);

/// For an endless, shuffled loader whose batches are the shards of a step: --seed, --workers.
data::LoaderConfig shard_loader(const Config& config, int batch, data::Crops crops,
                                const engine::Device& device);

/// From `step` on, of `shards` a step those that this rank of `comm` trains.
void share_out(data::LoaderConfig& loader, const engine::Comm& comm, int shards, std::int64_t step);

/// The device of --device, --precision, --kernels and --threads; records what `auto` came to.
engine::Device open_device(Config& config);

/// Says in the log which images could not be decoded, each once, and counts them.
class SkipLog {
 public:
  void look(const data::Loader& loader);
  /// One line of the log.
  static void say(const data::Skipped& bad);
  std::int64_t count() const { return count_; }

 private:
  std::map<const data::Loader*, std::size_t> said_;
  std::int64_t count_ = 0;
};

}  // namespace tunas::tools
