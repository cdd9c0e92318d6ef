// A run folder: everything one search or training leaves behind.
//
//   config.json          every value and where it came from
//   log.txt              messages
//   metrics.jsonl        one object a step; the same bytes for the same run
//   timing.jsonl         wall clock, images/s, what waiting and checkpoints took
//   arch.json            the architecture
//   weights.safetensors  its weights (of a search: the shared ones)
//   checkpoints/         what a run that ended early goes on from (engine/checkpoint.h)
//   lock                 held while the run goes on (engine/folder_lock.h)
//   rendezvous/          of a run of several ranks: how they found each other
#pragma once

#include <memory>
#include <string>

#include "engine/folder_lock.h"

namespace tunas::tools {

class RunFolder {
 public:
  enum class Existing : unsigned char { refuse, overwrite, resume };

  /// Looks, touches nothing. Error(Exit::usage) where `path` is a file, or a folder that is not
  /// empty and may be neither overwritten nor gone on with.
  RunFolder(std::string path, Existing existing);

  /// Makes the folder where it is not there. Error(Exit::data) where the system refuses.
  void create() const;
  /// This process alone works in the folder from now on; again: as before. Error as FolderLock.
  void lock();
  /// Of a run that was there before, removes the files listed above and no others; checkpoints and
  /// the lock are their owners' matter. Error as create().
  void clear() const;

  /// Whether no run is there.
  bool empty() const { return empty_; }
  const std::string& path() const { return path_; }
  /// Path of a file in the folder.
  std::string file(const std::string& name) const;

 private:
  std::string path_;
  bool empty_ = true;
  std::shared_ptr<engine::FolderLock> lock_;
};

}  // namespace tunas::tools
