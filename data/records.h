// Records: labelled images by index, whatever files they come from.
//
//   folder:DIR            a folder for each class, or ImageNet's validation folder (data/folder.h)
//   tar:GLOB              WebDataset tars: KEY.jpg|jpeg|png and KEY.cls|json (data/tar.h)
//   tfrecord:GLOB         TFRecords of TensorFlow Datasets, or Inception's (data/tfrecord.h)
//   pack:FILE             what `tunas data pack` wrote (data/pack.h)
//   cifar10:DIR           CIFAR-10's binary batches (data/cifar.h)
//   fashion-mnist[:DIR]   idx files, gzipped or not; DIR defaults to kFashionMnist
//   synthetic:WxHxN       N images of random pixels, label = index mod 10, for benches
//
// A new format is a function that returns a Records and a line in open_records.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace tunas::data {

/// The specs above, for messages and help.
inline constexpr const char* kSpecs =
    "folder:DIR, tar:GLOB, tfrecord:GLOB, pack:FILE, cifar10:DIR, fashion-mnist[:DIR], "
    "synthetic:WxHxN";
inline constexpr const char* kFashionMnist = "/usr/share/datasets/fashion-mnist";

/// Labels must lie below this: the largest one decides how wide a classifier is.
inline constexpr std::int32_t kMaxClasses = 1 << 20;

/// Which half of a data set that comes in two; formats that name their files take either.
enum class Split : unsigned char { train, test };

/// What a record holds: a JPEG or PNG (channels 0), or pixels [h][w][channels] with 1 or 3
/// channels.
struct Content {
  std::span<const std::uint8_t> bytes;
  int h = 0, w = 0, channels = 0;
};

/// Where a record lies.
struct Place {
  std::string file;
  std::string key;           // in that file; empty where the file holds nothing else
  std::int64_t offset = -1;  // of its first byte; -1 where bytes of the file do not count
};

struct Records {
  using Scratch = std::vector<std::uint8_t>;

  std::string spec;
  std::vector<std::int32_t> labels;
  /// The record at an index below size(). The bytes live in the files or in `scratch`, which may be
  /// overwritten; valid until scratch changes. Callable from several threads at once. Throws
  /// Error(data) with the reason alone where a record's checksum does not hold or its file went.
  std::function<Content(std::int64_t index, Scratch& scratch)> content;
  std::function<Place(std::int64_t index)> place;
  /// Error(data) with the reason where a checksum that `content` does not look at, because that
  /// would take as long as the reading, does not hold. Empty: there is none.
  std::function<void(std::int64_t index)> verify;

  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  /// The largest label + 1.
  int classes() const;
  /// Throws Error(usage) where `index` lies outside.
  std::int32_t label(std::int64_t index) const;
  Content read(std::int64_t index, Scratch& scratch) const;
  /// The place, for messages: "train-0.tar: n01440764_tench (at byte 12288)".
  std::string name(std::int64_t index) const;
};

/// Throws Error(usage) for a spec nobody knows, Error(data) for missing, broken or empty data.
Records open_records(const std::string& spec, Split split);

/// Throws Error(data), naming the first record whose label does not fit a classifier of `classes`.
void check_labels(const Records& records, int classes);

/// One sample per label: 0 <= label < kMaxClasses, or Error(data) naming `what`.
std::int32_t check_label(std::int64_t label, const std::string& what);

/// `size` is "WxHxN".
Records open_synthetic(const std::string& size);

}  // namespace tunas::data
