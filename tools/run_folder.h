// A run folder: everything one search or training leaves behind.
//
//   config.json          every value and where it came from
//   log.txt              messages
//   metrics.jsonl        one object a step; the same bytes for the same run
//   timing.jsonl         wall clock, images/s, seconds waited for data
//   arch.json            the architecture
//   weights.safetensors  its weights (of a search: the shared ones)
//   rendezvous/          of a run of several ranks: how they found each other
#pragma once

#include <string>

namespace tunas::tools {

class RunFolder {
 public:
  enum class Existing : unsigned char { refuse, overwrite };

  /// Looks, touches nothing. Error(Exit::usage) where `path` is a file, or a folder that is not
  /// empty and may not be overwritten.
  RunFolder(std::string path, Existing existing);

  /// Makes the folder; of a run that was there before, removes the files listed above and no
  /// others. Error(Exit::data) where the system refuses.
  void create() const;

  const std::string& path() const { return path_; }
  /// Path of a file in the folder.
  std::string file(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace tunas::tools
