// Loader: batches of decoded crops, made by worker threads ahead of the step.
//
// Position p = 0, 1, 2, ... of an endless run is sample subset[permutation of epoch p/size (p mod
// size)]; a batch may straddle two epochs. One pass ends with a short batch and then empty ones.
// The crop of a sample depends on (seed, epoch, sample) alone, so batches are the same for any
// number of workers, and `start` continues where position() was.
//
// A sample that cannot be decoded is reported in skipped(). In an endless run the next samples of
// its epoch's order stand in for it; one pass leaves it out, so that nothing is counted twice.
//
// A ring of slots holds the batches under way. A worker first plans a slot (headers, crops, where
// each one's pixels go), then workers decode its samples straight to their places.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "data/augment.h"
#include "data/decode.h"
#include "data/records.h"
#include "data/sampler.h"
#include "engine/batch.h"
#include "engine/device.h"

namespace tunas::data {

enum class Order : unsigned char { shuffled, stored };
enum class Crops : unsigned char { random, central };  // random ones are also flipped
enum class Passes : unsigned char { endless, one };

struct LoaderConfig {
  int batch = 0;
  Order order = Order::shuffled;
  Crops crops = Crops::random;
  Passes passes = Passes::endless;
  CropRule rule;          // of random crops
  Preprocess preprocess;  // of central ones, shown at `resolution`
  int resolution = 0;     // used where preprocess.resize is set
  std::uint64_t seed = 0;
  std::int64_t start = 0;  // position of the first sample
  int workers = 1;
  int prefetch = 2;  // batches ahead of the one in use
  /// Pixels lie in memory that this device reads by itself; must outlive the loader. Null: the
  /// host's.
  const engine::Device* device = nullptr;
};

/// Evaluation: every sample once, in stored order, central crops.
inline LoaderConfig evaluation_loader(int batch) {
  LoaderConfig config;
  config.batch = batch;
  config.order = Order::stored;
  config.crops = Crops::central;
  config.passes = Passes::one;
  return config;
}

struct Skipped {
  std::int64_t sample = 0;
  std::string name;  // file and key
  std::string reason;
  std::int64_t times = 0;  // once an epoch, or never again where another crop is whole
};

class Loader {
 public:
  /// `records` must outlive the loader. Throws Error(usage) for an empty subset, one with indices
  /// that `records` does not have, or a config that makes no sense.
  Loader(const Records& records, Subset subset, const LoaderConfig& config);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch, empty at the end; valid until the next call. Throws what a worker threw while
  /// making this batch, and Error(data) after kMaxSkips bad samples in a row; then again each time.
  const Batch& next();

  /// Position of the next batch: where to start in order to go on after what was handed out.
  std::int64_t position() const { return position_; }
  /// Seconds that next() waited for workers.
  double stalls() const { return stalls_; }
  /// Bad samples met in the batches handed out so far, in the order of their first appearance.
  const std::vector<Skipped>& skipped() const { return skipped_; }

  static constexpr int kMaxSkips = 100;

 private:
  struct Item;
  struct Slot;
  struct Worker;

  void work();
  void stop();
  Slot* plannable();
  Slot* decodable();
  void plan(Slot& slot, Worker& worker) const;
  void place(Slot& slot, Item& item) const;
  bool find(Item& item, Worker& worker) const;
  bool skip(Item& item, const std::string& reason) const;
  void decode(Slot& slot, Item& item, Worker& worker) const;
  void hand_out(Slot& slot);
  void note(const Skipped& bad);

  const Records& records_;
  const Subset subset_;
  const LoaderConfig config_;
  const std::int64_t batches_;  // from start on

  std::int64_t position_;
  double stalls_ = 0;
  std::vector<Skipped> skipped_;
  const Batch nothing_;
  bool holding_ = false;  // a batch is out

  std::mutex mutex_;  // of everything below, and of the slots' progress
  std::condition_variable work_, ready_;
  std::vector<Slot> slots_;                  // batch b lives in slot b mod slots
  std::int64_t released_ = 0, planned_ = 0;  // batches done with; batches begun
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace tunas::data
