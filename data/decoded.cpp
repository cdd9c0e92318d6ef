#include "data/decoded.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace tunas::data {
namespace {

constexpr std::size_t kChunk = std::size_t{256} << 20, kAlign = 64;
constexpr int kAtOnce = 64;  // images decoded at a time

}  // namespace

DecodedSet::DecodedSet(const Records& records, const Subset& subset, const engine::Device& device,
                       const DecodedConfig& config,
                       const std::function<void(std::int64_t)>& progress)
    : device_(device), subset_(subset), config_(config), images_(subset.size()) {
  LoaderConfig loading = evaluation_loader(kAtOnce);
  loading.workers = config.workers;
  loading.on_bad = config.on_bad;
  loading.device = &device;
  Loader loader(records, subset, loading);
  for (const Batch* batch = &loader.next(); batch->size() > 0; batch = &loader.next()) {
    keep(*batch);
    if (loader.position() == batch->size()) check_room(loader.position());
    if (progress) progress(loader.position());
  }
  skipped_ = loader.skipped();
  const bool some = std::any_of(images_.begin(), images_.end(), [](auto& i) { return i.present; });
  if (!some) fail(Exit::data, records.spec, ": none of the held-out images can be decoded");
}

void DecodedSet::check_room(std::int64_t done) const {
  const auto total = static_cast<std::size_t>(
      static_cast<double>(used_) * static_cast<double>(subset_.size()) / static_cast<double>(done));
  const std::size_t there = device_.available();
  if (config_.place == engine::Place::host || total <= there) return;
  fail(Exit::memory, "--cache-holdout device: ", subset_.size(), " decoded images need about ",
       total >> 20, " MiB of the device's memory, ", there >> 20,
       " are left; use --cache-holdout host or off, or a smaller --holdout");
}

void DecodedSet::keep(const Batch& batch) {
  for (int i = 0; i < batch.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const Crop& crop = batch.crops[at];
    const std::size_t bytes =
        static_cast<std::size_t>(crop.stride) * static_cast<std::size_t>(crop.h);
    if (chunks_.empty() || used_ + bytes > chunks_.back().bytes()) {
      chunks_.push_back(device_.alloc(std::max(kChunk, bytes), config_.place));
      used_ = 0;
    }
    char* to = chunks_.back().data() + used_;
    device_.copy(to, batch.pixels + crop.offset, bytes);
    used_ = (used_ + bytes + kAlign - 1) / kAlign * kAlign;
    const auto place = std::lower_bound(subset_.begin(), subset_.end(), batch.samples[at]);
    Image& image = images_[static_cast<std::size_t>(place - subset_.begin())];
    image = {crop, batch.labels[at], true};
    image.crop.offset = reinterpret_cast<std::uintptr_t>(to);
  }
  device_.sync();  // before the loader reuses its memory
}

const Batch& DecodedSet::next() {
  const auto size = static_cast<std::int64_t>(images_.size());
  out_.crops.clear();
  out_.labels.clear();
  out_.samples.clear();
  const auto first = std::min_element(chunks_.begin(), chunks_.end(),
                                      [](auto& a, auto& b) { return a.data() < b.data(); });
  out_.pixels = reinterpret_cast<const std::uint8_t*>(first->data());
  const bool gpu = device_.kind() == Kind::cuda;
  out_.reach = !gpu                                     ? Reach::host
               : config_.place == engine::Place::device ? Reach::gpu
                                                        : Reach::both;
  std::int64_t position = config_.start + config_.slice.batch(handed_out_++) * config_.batch;
  for (int i = 0; i < config_.batch; ++i, ++position) {
    const auto epoch = static_cast<std::uint32_t>(position / size);
    const Permutation order(size, {config_.seed, Purpose::order, epoch, 0});
    std::int64_t place = position % size, at = order(place);
    while (!images_[static_cast<std::size_t>(at)].present) {
      place = (place + 1) % size;
      at = order(place);
    }
    const Image& image = images_[static_cast<std::size_t>(at)];
    out_.crops.push_back(image.crop);
    out_.crops.back().offset -= reinterpret_cast<std::uintptr_t>(first->data());
    out_.labels.push_back(image.label);
    out_.samples.push_back(subset_[static_cast<std::size_t>(at)]);
  }
  return out_;
}

std::size_t DecodedSet::bytes() const {
  std::size_t total = used_;
  for (std::size_t i = 0; i + 1 < chunks_.size(); ++i) total += chunks_[i].bytes();
  return total;
}

}  // namespace tunas::data
