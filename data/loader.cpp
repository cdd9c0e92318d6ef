#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <system_error>

#include "kernels/error.h"

namespace tunas::data {

/// A place in a batch and the sample that fills it.
struct Loader::Item {
  std::uint32_t epoch = 0;
  std::int64_t place = 0;  // in the epoch's order; moves on past bad samples
  std::int64_t sample = 0;
  View view;
  Reduction reduction;
  std::uint64_t offset = 0;
  bool present = false;
  bool replaced = false;  // by one pixel of kFill, which any resizing makes an image of
  int tries = 0;
  std::vector<std::uint8_t> stand_in;  // pixels of a sample found only after planning
  std::vector<Skipped> bad;
  std::exception_ptr error;

  std::size_t bytes() const {
    return 3 * static_cast<std::size_t>(view.region.h) * static_cast<std::size_t>(view.region.w);
  }
};

enum class Stage : unsigned char { planning, decoding, ready };

struct Loader::Slot {
  Stage stage = Stage::planning;
  std::int64_t batch = 0;
  int claimed = 0, done = 0, items_used = 0;
  std::vector<Item> items;  // the first items_used count; the rest keep their memory
  engine::Memory memory;    // of the pixels, `end` bytes of it used
  std::uint64_t end = 0;
  Batch out;
  std::exception_ptr error;

  std::uint8_t* pixels() const { return reinterpret_cast<std::uint8_t*>(memory.data()); }
};

/// What a thread decodes with.
struct Loader::Worker {
  Decoder decoder;
  Records::Scratch scratch;
  std::int64_t bytes = 0;  // of the image being decoded
};

namespace {

constexpr std::uint64_t kAlign = 64;  // of each crop's first byte

std::uint64_t aligned(std::uint64_t offset) { return (offset + kAlign - 1) / kAlign * kAlign; }

std::int64_t count_batches(const Subset& subset, const LoaderConfig& config) {
  const auto size = static_cast<std::int64_t>(subset.size());
  require(config.batch > 0, "batch size ", config.batch, "; give 1 or more");
  require(config.workers > 0 && config.prefetch > 0,
          "a loader needs workers and prefetch of 1 or "
          "more, not ",
          config.workers, " and ", config.prefetch);
  require(size > 0, "the set of samples to load is empty");
  require(config.start >= 0, "a loader cannot start at position ", config.start);
  require(config.scaling == Scaling::off || config.resolution > 0,
          "a loader that scales needs the resolution of the images");
  const Slice& slice = config.slice;
  require(slice.first >= 0 && slice.count > 0 && slice.first + slice.count <= slice.of,
          "a loader cannot take ", slice.count, " of every ", slice.of, " batches from number ",
          slice.first, " on");
  if (config.passes == Passes::endless) return std::numeric_limits<std::int64_t>::max();
  const std::int64_t left = std::max<std::int64_t>(size - config.start, 0);
  return slice.share((left + config.batch - 1) / config.batch);
}

/// Position of a loader's batch b.
std::int64_t first_of(const LoaderConfig& config, std::int64_t b) {
  return config.start + config.slice.batch(b) * config.batch;
}

}  // namespace

LoaderConfig evaluation_loader(int batch) {
  LoaderConfig config;
  config.batch = batch;
  config.order = Order::stored;
  config.crops = Crops::central;
  config.passes = Passes::one;
  return config;
}

std::string Skipped::text() const {
  std::string text = name + ": " + reason;
  if (bytes > 0) {
    text +=
        " (byte " + std::to_string(stopped_at) + " of " + std::to_string(bytes) + " of the image)";
  }
  return text;
}

Loader::Loader(const Records& records, Subset subset, const LoaderConfig& config)
    : records_(records),
      subset_(std::move(subset)),
      config_(config),
      batches_(count_batches(subset_, config)),
      position_(first_of(config, 0)),
      slots_(static_cast<std::size_t>(config.prefetch) + 1) {
  check_rule(config.rule);
  for (const std::int64_t sample : subset_) {
    require(sample >= 0 && sample < records.size(), records.spec, ": there is no record ", sample,
            "; it has ", records.size());
  }
  try {
    for (int i = 0; i < config.workers; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    stop();
    fail(Exit::memory, "cannot start ", config.workers, " loader threads: ", error.what());
  }
}

Loader::~Loader() { stop(); }

void Loader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// ---- worker threads

Loader::Slot* Loader::plannable() {
  const auto slots = static_cast<std::int64_t>(slots_.size());
  if (planned_ >= batches_ || planned_ >= released_ + slots) return nullptr;
  Slot& slot = slots_[static_cast<std::size_t>(planned_ % slots)];
  slot.stage = Stage::planning;
  slot.batch = planned_++;
  return &slot;
}

Loader::Slot* Loader::decodable() {
  const auto slots = static_cast<std::int64_t>(slots_.size());
  for (std::int64_t batch = released_; batch < planned_; ++batch) {
    Slot& slot = slots_[static_cast<std::size_t>(batch % slots)];
    if (slot.stage == Stage::decoding && slot.claimed < slot.items_used) return &slot;
  }
  return nullptr;
}

/// Planning goes first: it is short, and other workers wait for it.
void Loader::work() {
  Worker worker;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (Slot* slot = plannable()) {
      lock.unlock();
      plan(*slot, worker);
      lock.lock();
      slot->stage = slot->items_used > 0 ? Stage::decoding : Stage::ready;
      work_.notify_all();
      ready_.notify_one();
    } else if ((slot = decodable())) {
      Item& item = slot->items[static_cast<std::size_t>(slot->claimed++)];
      lock.unlock();
      decode(*slot, item, worker);
      lock.lock();
      if (++slot->done == slot->items_used) {
        slot->stage = Stage::ready;
        ready_.notify_one();
      }
    } else {
      work_.wait(lock);
    }
  }
}

/// Notes that the item's sample is bad and fills its place as on_bad says. True if another sample
/// is to be tried there.
bool Loader::another(Item& item, const Worker& worker, const std::string& reason) const {
  item.bad.push_back({item.sample, records_.name(item.sample), reason, 1,
                      worker.bytes > 0 ? worker.decoder.stopped_at() : 0, worker.bytes,
                      config_.on_bad});
  const std::string first = item.bad.front().text();
  if (config_.on_bad == OnBad::fail) {
    fail(Exit::data, first, "; --on-bad-sample skip or replace goes on without it");
  }
  item.present = item.replaced = config_.on_bad == OnBad::replace;
  item.view = {{0, 0, 1, 1}, false};
  if (item.replaced || config_.passes == Passes::one) return false;
  const auto size = static_cast<std::int64_t>(subset_.size());
  if (++item.tries >= std::min<std::int64_t>(size, kMaxSkips)) {
    fail(Exit::data, records_.spec, ": ", item.tries, " samples in a row cannot be decoded, first ",
         first);
  }
  item.place = (item.place + 1) % size;
  return true;
}

Size Loader::open(const Item& item, Worker& worker) const {
  worker.bytes = 0;
  const Content content = records_.content(item.sample, worker.scratch);
  worker.bytes = static_cast<std::int64_t>(content.bytes.size());
  return worker.decoder.open(content);
}

/// Looks for the first sample from item.place on whose header can be read, and where to crop it.
/// It is then open in the worker's decoder.
void Loader::find(Item& item, Worker& worker) const {
  const auto size = static_cast<std::int64_t>(subset_.size());
  const Permutation order(size, {config_.seed, Purpose::order, item.epoch, 0});
  for (;;) {
    const std::int64_t at = config_.order == Order::shuffled ? order(item.place) : item.place;
    item.sample = subset_[static_cast<std::size_t>(at)];
    try {
      const Size image = open(item, worker);
      item.view = config_.crops == Crops::random
                      ? random_view(image, config_.rule, {config_.seed, item.epoch, item.sample})
                      : evaluation_view(image, config_.preprocess, config_.resolution);
      if (config_.scaling == Scaling::dct && item.view.y.frame == 0) {
        item.reduction = worker.decoder.reduction(item.view.region, config_.resolution);
        item.view.region = reduced(item.view.region, image, item.reduction);
      }
      item.present = true;
      return;
    } catch (const Error& error) {
      if (error.code() != Exit::data) throw;
      if (!another(item, worker, error.what())) return;
    }
  }
}

/// The item's pixels come behind those placed before.
void Loader::place(Slot& slot, Item& item) {
  item.offset = slot.end;
  slot.end = aligned(slot.end + item.bytes());
}

/// Makes room for all that was placed; the first `used` bytes stay.
void Loader::make_room(Slot& slot, std::uint64_t used) const {
  if (slot.memory.bytes() >= slot.end) return;
  const std::size_t bytes = slot.end + slot.end / 2;
  engine::Memory larger = config_.device ? config_.device->alloc(bytes, engine::Place::host)
                                         : engine::Memory::pages(bytes);
  if (used > 0) std::memcpy(larger.data(), slot.memory.data(), used);
  slot.memory = std::move(larger);
}

void Loader::plan(Slot& slot, Worker& worker) const {
  const auto size = static_cast<std::int64_t>(subset_.size());
  const std::int64_t first = first_of(config_, slot.batch);
  const std::int64_t count = config_.passes == Passes::endless
                                 ? config_.batch
                                 : std::min<std::int64_t>(config_.batch, size - first);
  slot.claimed = slot.done = slot.items_used = 0;
  slot.error = nullptr;
  try {
    if (slot.items.size() < static_cast<std::size_t>(count)) {
      slot.items.resize(static_cast<std::size_t>(count));
    }
    slot.end = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      Item& item = slot.items[static_cast<std::size_t>(i)];
      item.epoch = static_cast<std::uint32_t>((first + i) / size);
      item.place = (first + i) % size;
      item.tries = 0;
      item.error = nullptr;
      item.stand_in.clear();
      item.bad.clear();
      item.present = item.replaced = false;
      find(item, worker);
      if (item.present) place(slot, item);
    }
    make_room(slot, 0);
    slot.items_used = static_cast<int>(count);
  } catch (...) {
    slot.error = std::current_exception();
  }
}

void Loader::decode(Slot& slot, Item& item, Worker& worker) const {
  if (!item.present) return;
  try {
    std::uint8_t* to = slot.pixels() + item.offset;
    for (bool opened = false; item.present && !item.replaced; opened = true) {
      try {
        if (!opened) open(item, worker);
        worker.decoder.read(item.view.region, to, item.reduction);
        return;
      } catch (const Error& error) {
        if (error.code() != Exit::data) throw;
        if (!another(item, worker, error.what())) break;
      }
      find(item, worker);
      item.stand_in.resize(item.bytes());
      to = item.stand_in.data();
    }
    if (item.replaced) std::fill_n(to, item.bytes(), kFill);
  } catch (...) {
    item.error = std::current_exception();
  }
}

// ---- the consumer

const Batch& Loader::next() {
  for (;;) {
    std::unique_lock lock(mutex_);
    if (holding_) {
      holding_ = false;
      ++released_;
      work_.notify_all();
    }
    if (released_ >= batches_) return nothing_;
    Slot& slot = slots_[static_cast<std::size_t>(released_) % slots_.size()];
    const auto ready = [&] {
      return planned_ > released_ && slot.batch == released_ && slot.stage == Stage::ready;
    };
    if (!ready()) {
      const auto begin = std::chrono::steady_clock::now();
      ready_.wait(lock, ready);
      stalls_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    lock.unlock();
    hand_out(slot);
    holding_ = true;
    if (slot.out.size() > 0) return slot.out;  // else every sample of it was bad
  }
}

/// Makes the batch of what the workers left.
void Loader::hand_out(Slot& slot) {
  if (slot.error) std::rethrow_exception(slot.error);
  Batch& out = slot.out;
  out.crops.clear();
  out.labels.clear();
  out.samples.clear();
  for (int i = 0; i < slot.items_used; ++i) {
    Item& item = slot.items[static_cast<std::size_t>(i)];
    if (item.error) std::rethrow_exception(item.error);
    if (!item.present) continue;
    bad_in_a_row_ = item.replaced ? bad_in_a_row_ + 1 : 0;
    if (bad_in_a_row_ >= kMaxSkips) {
      fail(Exit::data, records_.spec, ": ", kMaxSkips, " samples in a row cannot be decoded, last ",
           item.bad.front().text());
    }
    if (!item.stand_in.empty()) {
      const std::uint64_t used = slot.end;
      place(slot, item);
      make_room(slot, used);
      std::copy(item.stand_in.begin(), item.stand_in.end(), slot.pixels() + item.offset);
    }
    const Region& region = item.view.region;
    out.crops.push_back(
        {item.offset, region.h, region.w, 3 * region.w, item.view.flip, item.view.y, item.view.x});
    out.labels.push_back(records_.label(item.sample));
    out.samples.push_back(item.sample);
  }
  out.pixels = slot.pixels();
  const bool shared = config_.device && config_.device->kind() == Kind::cuda;
  out.reach = shared ? Reach::both : Reach::host;
  for (int i = 0; i < slot.items_used; ++i) {
    for (const Skipped& bad : slot.items[static_cast<std::size_t>(i)].bad) note(bad);
  }
  position_ = first_of(config_, slot.batch + 1);
  if (config_.passes == Passes::one) position_ = std::min(position_, std::ssize(subset_));
}

void Loader::note(const Skipped& bad) {
  const auto known = std::find_if(skipped_.begin(), skipped_.end(),
                                  [&](const Skipped& s) { return s.sample == bad.sample; });
  if (known == skipped_.end()) {
    skipped_.push_back(bad);
  } else {
    ++known->times;
  }
}

}  // namespace tunas::data
