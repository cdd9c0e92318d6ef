// FolderLock: one process alone works in a folder. The system's lock (flock) on FOLDER/lock, which
// is made and never removed: the lock ends with the process however that ends, so a file left there
// blocks nobody. It holds the holder's process id and host, for the message alone. Where the file
// system has no locks, there is none.
#pragma once

#include <string>

namespace tunas::engine {

class FolderLock {
 public:
  /// Error(Exit::usage) naming the folder and who works in it; Error(Exit::data) where FOLDER/lock
  /// cannot be made.
  explicit FolderLock(const std::string& folder);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

 private:
  int descriptor_ = -1;
};

}  // namespace tunas::engine
