// A checkpoint of a run: a folder ROOT/step-000000400 of safetensors files, each a list of named
// arrays, and a manifest (manifest.h) with the sums of them all. What the arrays mean is their
// writer's matter.
//
// A folder under its name is complete: it is written beside it (step-000000400.part), synced and
// renamed. One of the same step that is there already steps aside (.old) until the new one is in
// its place; where a kill leaves it there, it is found there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/manifest.h"
#include "engine/safetensors.h"

namespace tunas::engine {

/// An array that a snapshot owns: a vector that was moved in, never copied. `type` as in
/// StoredTensor. Error(Exit::data) where the vector does not have the bytes of `shape`.
class OwnedTensor {
 public:
  template <class T>
  OwnedTensor(std::string name, std::string type, Shape shape, std::vector<T>&& values)
      : OwnedTensor(std::move(name), std::move(type), std::move(shape),
                    std::make_shared<const std::vector<T>>(std::move(values))) {}

  /// For write_safetensors; valid while this lives.
  const StoredTensor& stored() const { return stored_; }

 private:
  template <class T>
  OwnedTensor(std::string name, std::string type, Shape shape,
              std::shared_ptr<const std::vector<T>> values)
      : stored_{std::move(name), std::move(type), std::move(shape), values->data()},
        owner_(values) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_same_v<T, bool>);
    check(values->size() * sizeof(T));
  }
  void check(std::size_t bytes) const;

  StoredTensor stored_;
  std::shared_ptr<const void> owner_;
};

/// What a checkpoint is made of.
struct Snapshot {
  struct File {
    std::string name;  // weights.safetensors
    std::vector<OwnedTensor> tensors;
    std::map<std::string, std::string> metadata;
  };

  std::int64_t step = 0;  // 0 ... 999 999 999
  std::optional<double> score;
  Json config = Json::object();
  Json lines = Json::object();
  std::vector<File> files;
  /// Files that must be on the disk before the checkpoint is there, such as those of `lines`.
  std::vector<std::string> sync_first;
};

/// Error(Exit::usage) for a step, a score or names that no checkpoint can have.
void check_snapshot(const Snapshot& snapshot);
/// Writes `snapshot` into `root`, which is made where only it is missing. Error(Exit::data) where
/// that fails: earlier checkpoints are as they were, and no part of a new one is left.
void write_checkpoint(const std::string& root, const Snapshot& snapshot);

/// A checkpoint whose every byte was held to its sum.
class Checkpoint {
 public:
  /// Error(Exit::data) naming the file that is damaged or missing, Error(Exit::usage) where it is
  /// of another version.
  explicit Checkpoint(std::string folder);

  const std::string& folder() const { return folder_; }
  std::int64_t step() const { return manifest_.step; }
  std::optional<double> score() const { return manifest_.score; }
  const Json& config() const { return manifest_.config; }
  const Json& lines() const { return manifest_.lines; }
  /// Error(Exit::data) where there is no such file.
  const Safetensors& file(const std::string& name) const;

 private:
  std::string folder_;
  Manifest manifest_;
  std::map<std::string, std::unique_ptr<const Safetensors>> files_;
};

/// The folders of the checkpoints in `root` by step, whatever their state; none where it is absent.
std::map<std::int64_t, std::string> list_checkpoints(const std::string& root);
/// The newest that is whole. Appends one sentence to `warnings` for each newer one that is not.
/// Error(Exit::usage) where that is of another version.
std::optional<Checkpoint> newest_checkpoint(const std::string& root,
                                            std::vector<std::string>& warnings);

/// Takes a checkpoint's folder away, so that a kill never leaves a part of it under its name.
/// Error(Exit::data) where that fails.
void remove_checkpoint(const std::string& folder);
/// Removes what killed attempts left in `root`, which may be absent.
void remove_leftovers(const std::string& root);

}  // namespace tunas::engine
