#include "data/cifar.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "kernels/error.h"

namespace tunas::data {
namespace {

constexpr int kSide = 32;
constexpr std::size_t kPlane = std::size_t{kSide} * kSide, kRecord = 1 + 3 * kPlane;

struct Batches {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<std::int64_t> ends;  // records up to the end of each file

  /// The file of a record, and its first byte there.
  std::pair<const MappedFile*, std::size_t> find(std::int64_t record) const {
    const auto file = std::upper_bound(ends.begin(), ends.end(), record) - ends.begin();
    const std::int64_t first = file == 0 ? 0 : ends[static_cast<std::size_t>(file - 1)];
    return {files[static_cast<std::size_t>(file)].get(),
            static_cast<std::size_t>(record - first) * kRecord};
  }
};

}  // namespace

std::vector<std::int32_t> parse_cifar10(ByteSpan bytes, const std::string& path) {
  if (bytes.empty() || bytes.size() % kRecord != 0) {
    fail(Exit::data, path, ": holds ", bytes.size(), " bytes, which is no number of records of ",
         kRecord, " bytes; fetch cifar-10-binary.tar.gz again");
  }
  std::vector<std::int32_t> labels;
  for (std::size_t at = 0; at < bytes.size(); at += kRecord) {
    if (bytes[at] > 9) {
      fail(Exit::data, path, ": label ", int{bytes[at]}, " is not in 0..9 (at byte ", at,
           "); is it CIFAR-10 in its binary version?");
    }
    labels.push_back(bytes[at]);
  }
  return labels;
}

Records open_cifar10(const std::string& folder, Split split) {
  const std::string below = folder + "/cifar-10-batches-bin";
  std::error_code error;
  const std::string& place = std::filesystem::is_directory(below, error) ? below : folder;
  std::vector<std::string> names = {"test_batch.bin"};
  if (split == Split::train) {
    names.clear();
    for (int i = 1; i <= 5; ++i) names.push_back("data_batch_" + std::to_string(i) + ".bin");
  }
  const auto batches = std::make_shared<Batches>();
  Records records;
  records.spec = "cifar10:" + folder;
  for (const std::string& name : names) {
    const std::string path = place + "/" + name;
    if (!std::filesystem::exists(path, error)) {
      fail(Exit::data, path, ": not found; unpack cifar-10-binary.tar.gz and name its folder");
    }
    batches->files.push_back(std::make_unique<MappedFile>(path));
    const std::vector<std::int32_t> labels = parse_cifar10(batches->files.back()->bytes(), path);
    records.labels.insert(records.labels.end(), labels.begin(), labels.end());
    batches->ends.push_back(records.size());
  }
  records.content = [batches](std::int64_t i, Records::Scratch& scratch) {
    const auto [file, at] = batches->find(i);
    const std::uint8_t* planes = file->bytes().data() + at + 1;
    scratch.resize(3 * kPlane);
    for (std::size_t p = 0; p < kPlane; ++p) {
      for (std::size_t c = 0; c < 3; ++c) scratch[3 * p + c] = planes[c * kPlane + p];
    }
    return Content{scratch, kSide, kSide, 3};
  };
  records.place = [batches](std::int64_t i) {
    const auto [file, at] = batches->find(i);
    return Place{file->path(), std::to_string(at / kRecord), static_cast<std::int64_t>(at)};
  };
  return records;
}

}  // namespace tunas::data
