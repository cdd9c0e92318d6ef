#include "tools/data_sets.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "tools/ranks.h"

namespace tunas::tools {

Option data_option() {
  return {.name = "data", .unit = "SPEC", .help = std::string("images: one of ") + data::kSpecs};
}

std::vector<Option> data_options() {
  return {data_option(),
          {.name = "val-data", .unit = "SPEC", .help = "held-out images, from elsewhere"},
          {.name = "holdout",
           .type = Type::integer,
           .unit = "images",
           .help = "held out of --data, drawn at random (default: a tenth); published: the first "
                   "50046 of TensorFlow Datasets' imagenet2012, as tfrecord:GLOB",
           .choices = {"published"},
           .least = 0},
          min_area_option(),
          {.name = "classes",
           .type = Type::integer,
           .help = "outputs of the classifier (default: 1001 for ImageNet, else as the data has)",
           .least = 2},
          bad_sample_option()};
}

Option min_area_option() {
  return {.name = "min-area",
          .type = Type::number,
          .fallback = "0.08",
          .help = "least share of an image that a random crop may keep",
          .least = 1e-6,
          .most = 1};
}

Option bad_sample_option() {
  return {.name = "on-bad-sample",
          .fallback = "skip",
          .help =
              "an image that cannot be decoded: leave it out (in endless runs the next one "
              "stands in), put grey in its place, or end with exit code 3",
          .choices = {"skip", "replace", "fail"}};
}

data::OnBad on_bad_sample(const Config& config) {
  const std::string word = config.text("on-bad-sample");
  return word == "replace" ? data::OnBad::replace
         : word == "fail"  ? data::OnBad::fail
                           : data::OnBad::skip;
}

std::vector<Option> compute_options() {
  return {
      {.name = "device",
       .fallback = "auto",
       .help = "where to compute; auto: on the GPU where there is one",
       .choices = {"auto", "cpu", "cuda"}},
      {.name = "precision",
       .help = "of activations and the weights that kernels read (default: bf16 on a GPU, fp32 on "
               "the CPU, which has no other)",
       .choices = {"bf16", "fp32"}},
      {.name = "kernels",
       .fallback = "auto",
       .help = "whose kernels where a library has the same: own, or those of oneDNN, cuBLASLt and "
               "cuDNN (library); auto: own",
       .choices = {"auto", "own", "library"}},
      {.name = "threads",
       .type = Type::integer,
       .fallback = "0",
       .help = "that compute; 0: all cores, shared with the ranks of the same machine; results do "
               "not depend on it",
       .least = 0,
       .most = 1024,
       .role = Role::manner}};
}

std::vector<Option> machine_options() {
  std::vector<Option> options = compute_options();
  options.push_back({.name = "workers",
                     .type = Type::integer,
                     .fallback = "2",
                     .help = "threads that decode images; results do not depend on it",
                     .least = 1,
                     .most = 1024,
                     .role = Role::manner});
  return options;
}

ImageSet open_image_set(const std::string& spec, data::Split split) {
  auto records = std::make_shared<data::Records>(data::open_records(spec, split));
  data::Subset all = data::everything(records->size());
  return {std::move(records), std::move(all)};
}

namespace {

/// The first 50 046 records of the training split of TensorFlow Datasets' imagenet2012, in its
/// stored order (specification section 17): of any other records they would be another set.
data::Holdout published_split(const data::Records& records, const Config& config) {
  constexpr std::int64_t kHeldOut = 50046, kTraining = 1281167;
  require(records.spec.starts_with("tfrecord:"), config.from("holdout"),
          " published: is a split of TensorFlow Datasets' imagenet2012 in its stored order; give ",
          "--data tfrecord:DIR/imagenet2012-train.tfrecord-*, not ", records.spec);
  require(records.size() == kTraining, config.from("holdout"), " published: ", records.spec,
          " holds ", records.size(), " images where imagenet2012's training split has ", kTraining,
          "; match all its 1024 files and no others");
  return data::hold_out_first(records.size(), kHeldOut);
}

}  // namespace

ImageSets open_image_sets(const Config& config) {
  ImageSets sets;
  sets.train = open_image_set(config.text("data"), data::Split::train);
  if (config.has("val-data")) {
    require(!config.has("holdout"), config.from("holdout"), " and ", config.from("val-data"),
            " exclude each other; leave one out");
    sets.held_out = open_image_set(config.text("val-data"), data::Split::test);
    return sets;
  }
  sets.held_out.records = sets.train.records;
  const std::int64_t size = sets.train.size();
  data::Holdout parts;
  if (config.has("holdout") && config.text("holdout") == "published") {
    parts = published_split(*sets.train.records, config);
  } else {
    const std::int64_t count =
        config.has("holdout") ? config.integer("holdout") : data::default_holdout(size);
    if (count == 0) return sets;
    parts = data::hold_out(size, count, 0);
  }
  sets.train.subset = std::move(parts.train);
  sets.held_out.subset = std::move(parts.held_out);
  return sets;
}

search::Space with_classes(const search::Space& space, const Config& config,
                           const ImageSets& sets) {
  constexpr int kPublished = 1001, kImageNet = 1000;
  search::Space changed = space;
  const int present = std::max(sets.train.records->classes(), sets.held_out.records->classes());
  if (config.has("classes")) {
    changed.classes = static_cast<int>(config.integer("classes"));
  } else if (space.classes == kPublished && present < kImageNet) {
    changed.classes = std::max(present, 2);
  }
  data::check_labels(*sets.train.records, changed.classes);
  data::check_labels(*sets.held_out.records, changed.classes);
  return changed;
}

void settle_images(Config& config, const search::Space& space, const ImageSets& sets) {
  config.settle("resolution", std::to_string(space.resolution));
  config.settle("classes", std::to_string(space.classes));
  if (!config.has("val-data")) config.settle("holdout", std::to_string(sets.held_out.size()));
}

void share_out(data::LoaderConfig& loader, const engine::Comm& comm, int shards,
               std::int64_t step) {
  const int own = shards / comm.size();
  loader.slice = {comm.rank() * own, own, shards};
  loader.start = step * shards * loader.batch;
}

data::LoaderConfig shard_loader(const Config& config, int batch, data::Crops crops,
                                const engine::Device& device) {
  data::LoaderConfig loader;
  loader.batch = batch;
  loader.crops = crops;
  loader.device = &device;
  loader.rule.min_area = static_cast<float>(config.number("min-area"));
  loader.seed = static_cast<std::uint64_t>(config.integer("seed"));
  loader.workers = static_cast<int>(config.integer("workers"));
  loader.on_bad = on_bad_sample(config);
  return loader;
}

engine::Device open_device(Config& config) {
  if (config.text("device") == "auto") {
    std::string why;
    const bool gpu = engine::Device::gpus(why) > 0;
    config.replace("device", gpu ? "cuda" : "cpu", config.from("device"));
  }
  const bool gpu = config.text("device") == "cuda";
  config.settle("precision", gpu ? "bf16" : "fp32");
  const bool halves = config.text("precision") == "bf16";
  require(gpu || !halves, config.from("precision"),
          ": the CPU computes in fp32; use --precision fp32");
  const std::string word = config.text("kernels");
  const Kernels kernels = word == "library" ? Kernels::library
                          : word == "own"   ? Kernels::own
                                            : Kernels::automatic;
  const Ranks here = ranks();
  if (gpu) {
    std::string why;  // a launcher may show each rank its own GPU alone
    const int index = engine::Device::gpus(why) == 1 ? 0 : here.local;
    return engine::Device::cuda(halves ? DType::bf16 : DType::f32, kernels, index);
  }
  const auto asked = static_cast<int>(config.integer("threads"));
  return engine::Device::cpu(asked > 0 ? asked : threads_of(here), kernels);
}

void SkipLog::look(const data::Loader& loader) {
  const std::vector<data::Skipped>& skipped = loader.skipped();
  for (std::size_t& i = said_[&loader]; i < skipped.size(); ++i) {
    say(skipped[i]);
    ++count_;
  }
}

void SkipLog::say(const data::Skipped& bad) {
  spdlog::warn("{}: {}", bad.done == data::OnBad::replace ? "replaced by grey" : "left out",
               bad.text());
}

}  // namespace tunas::tools
