#include "engine/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

[[noreturn]] void fail_system(const std::string& path, const char* what, const char* fix) {
  const int reason = errno;
  fail(Exit::data, path, ": cannot be ", what, " (", std::strerror(reason), "); ", fix);
}

constexpr const char* kMakeRoom = "free some space there or choose another place";

int create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_system(path, "created", "check that its folder exists and is yours");
  return descriptor;
}

/// Writes all of `data`; false with errno set where the system refuses.
bool write_all(int descriptor, const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor, data, bytes);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    bytes -= static_cast<std::size_t>(done);
  }
  return true;
}

/// EINVAL: a device such as /dev/null, which has nothing to sync.
bool sync_all(int descriptor) { return ::fsync(descriptor) == 0 || errno == EINVAL; }

std::string part_of(const std::string& path) { return path + ".part"; }

/// The file that a new one at `path` replaces or becomes: what a link leads to.
std::string target_of(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return path;  // nothing is there yet
  if (!S_ISREG(status.st_mode)) {
    fail(Exit::data, path, ": is there and is no plain file; give the name of a file");
  }
  if ((status.st_mode & 0222) == 0) {
    fail(Exit::data, path, ": is there and is read-only; choose another name");
  }
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  return error ? path : target.string();
}

}  // namespace

NewFile::NewFile(const std::string& path)
    : path_(target_of(path)), descriptor_(create(part_of(path_))) {}

NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(part_of(path_).c_str());
}

void NewFile::write(const void* data, std::size_t bytes) {
  if (!write_all(descriptor_, static_cast<const char*>(data), bytes)) {
    fail_system(path_, "written", kMakeRoom);
  }
}

void NewFile::commit() {
  if (!sync_all(descriptor_)) fail_system(path_, "written", kMakeRoom);
  if (::rename(part_of(path_).c_str(), path_.c_str()) != 0) {
    fail_system(path_, "written", "check that its folder exists and is yours");
  }
  ::close(std::exchange(descriptor_, -1));
  // The name itself must survive a power cut, too. A folder that cannot be synced is no error: the
  // file is complete either way.
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  const int parent = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (parent >= 0) {
    ::fsync(parent);
    ::close(parent);
  }
}

LineFile::LineFile(std::string path) : path_(std::move(path)), descriptor_(create(path_)) {}

LineFile::~LineFile() { ::close(descriptor_); }

void LineFile::write(std::string_view line) {
  std::string bytes(line);
  bytes += '\n';
  if (!write_all(descriptor_, bytes.data(), bytes.size())) {
    const int reason = errno;
    const bool trimmed = ::ftruncate(descriptor_, written_) == 0;
    errno = reason;
    fail_system(path_, "written",
                trimmed ? kMakeRoom : "its last line is incomplete: free some space there");
  }
  written_ += static_cast<long long>(bytes.size());
}

void LineFile::sync() {
  if (!sync_all(descriptor_)) fail_system(path_, "written", kMakeRoom);
}

void write_file(const std::string& path, std::string_view text) {
  NewFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

std::string read_file(const std::string& path, std::size_t max_bytes) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, "read", "check the path");
  std::string text;
  char buffer[1 << 16];
  ssize_t got;
  while ((got = ::read(descriptor, buffer, sizeof buffer)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 || text.size() + static_cast<std::size_t>(got) > max_bytes) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (got < 0) fail_system(path, "read", "check the path");
  if (got > 0) {
    fail(Exit::data, path, ": is larger than the ", max_bytes, " bytes such a file may have");
  }
  return text;
}

}  // namespace tunas::engine
