#include "engine/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

/// "process 1234 on host", or less where it is not known.
std::string holder(int descriptor) {
  char text[256];
  const ssize_t got = ::pread(descriptor, text, sizeof text, 0);
  return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : "another process";
}

void sign(int descriptor) {
  char host[128] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string text = "process " + std::to_string(::getpid()) + " on " + host;
  // Only the message would miss it.
  if (::ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, text.data(), text.size(), 0) < 0) {
    return;
  }
}

}  // namespace

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    fail(Exit::data, path, ": cannot be created (", std::strerror(errno),
         "); check that its folder exists and is yours");
  }
  int status;
  do {
    status = ::flock(descriptor_, LOCK_EX | LOCK_NB);
  } while (status != 0 && errno == EINTR);
  if (status == 0) {
    sign(descriptor_);
    return;
  }
  const int reason = errno;
  if (reason == ENOLCK || reason == EOPNOTSUPP || reason == ENOSYS) return;
  const std::string who = holder(descriptor_);
  ::close(descriptor_);
  if (reason != EWOULDBLOCK) {
    fail(Exit::data, path, ": cannot be locked (", std::strerror(reason),
         "); choose another place");
  }
  fail(Exit::usage, folder, ": ", who,
       " works in this folder; wait for it to end, or choose another folder");
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace tunas::engine
