// Loader: batches of decoded crops, made by worker threads ahead of the step.
//
// Position p = 0, 1, 2, ... of an endless run is sample subset[permutation of epoch p/size (p mod
// size)]; a batch may straddle two epochs. One pass ends with a short batch and then empty ones.
// The crop of a sample depends on (seed, epoch, sample) alone, so batches are the same for any
// number of workers, and `start` continues where position() was. Several loaders share one order by
// slices: together they hand out the batches of one loader, each batch once.
//
// A sample that cannot be read or decoded is reported in skipped(), and LoaderConfig::on_bad says
// what becomes of its place:
//   skip     in an endless run the next samples of its epoch's order stand in for it; one pass
//            leaves it out, so that nothing is counted twice
//   replace  a grey image (kFill) with the sample's own label: every batch keeps its size and the
//            samples of its positions
//   fail     next() throws an Error(data) that names it
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
enum class OnBad : unsigned char { skip, replace, fail };
/// dct: large crops of JPEGs are decoded at a half, a quarter or an eighth of their size where they
/// then still have twice the pixels of `resolution` each way. Faster, and not the same pixels.
enum class Scaling : unsigned char { off, dct };

/// The colour of an image that stands for a bad sample; near zero once it is normalised.
inline constexpr std::uint8_t kFill = 128;

struct LoaderConfig {
  int batch = 0;
  Order order = Order::shuffled;
  Crops crops = Crops::random;
  Passes passes = Passes::endless;
  CropRule rule;          // of random crops
  Preprocess preprocess;  // of central ones
  std::uint64_t seed = 0;
  std::int64_t start = 0;  // position of the first sample; of all slices
  Slice slice = {};
  int workers = 1;
  int prefetch = 2;  // batches ahead of the one in use
  OnBad on_bad = OnBad::skip;
  Scaling scaling = Scaling::off;
  int resolution = 0;  // of the result; for Scaling::dct and where preprocess.resize is set
  /// Pixels lie in memory that this device reads by itself; must outlive the loader. Null: the
  /// host's.
  const engine::Device* device = nullptr;
};

/// Evaluation: every sample once, in stored order, central crops.
LoaderConfig evaluation_loader(int batch);

struct Skipped {
  std::int64_t sample = 0;
  std::string name;  // file and key
  std::string reason;
  std::int64_t times = 0;       // once an epoch, or never again where another crop is whole
  std::int64_t stopped_at = 0;  // byte of the image at which decoding gave up (Decoder)
  std::int64_t bytes = 0;       // of the image
  OnBad done = OnBad::skip;     // about it

  /// "train-0.tar: n01440764_tench: Corrupt JPEG data: ... (byte 5120 of 110525 of the image)".
  std::string text() const;
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
  /// making this batch, and Error(data) after kMaxSkips bad samples in a row (not in one pass that
  /// skips them); then again each time.
  const Batch& next();

  /// Position of the next batch; without slices, where to start in order to go on after what was
  /// handed out.
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
  static void place(Slot& slot, Item& item);
  void make_room(Slot& slot, std::uint64_t used) const;
  Size open(const Item& item, Worker& worker) const;
  void find(Item& item, Worker& worker) const;
  bool another(Item& item, const Worker& worker, const std::string& reason) const;
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
  int bad_in_a_row_ = 0;  // replaced ones
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
