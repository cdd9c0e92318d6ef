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

/// A descriptor that is closed when its block ends.
struct Descriptor {
  int number;
  ~Descriptor() {
    const int reason = errno;
    ::close(number);
    errno = reason;
  }
};

int open_to_read(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, "read", "check the path");
  return descriptor;
}

/// Opens a file of lines that is there and cuts it to its first `keep` bytes.
int open_cut(const std::string& path, std::int64_t keep) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, "opened", "put it back to where it was");
  struct stat status {};
  char last = '\n';
  const bool plain = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const bool whole = plain && (keep == 0 || ::pread(descriptor, &last, 1, keep - 1) == 1);
  if (whole && last == '\n' && ::ftruncate(descriptor, keep) == 0 &&
      ::lseek(descriptor, keep, SEEK_SET) == keep) {
    return descriptor;
  }
  const Descriptor closed{descriptor};
  if (!plain) fail(Exit::data, path, ": is no plain file; put back the one that was there");
  if (!whole) {
    fail(Exit::data, path, ": has ", status.st_size, " bytes, but is to be continued after byte ",
         keep, "; put back the file that was there");
  }
  if (last != '\n') {
    fail(Exit::data, path, ": has no line that ends at byte ", keep,
         ", after which it is to be continued; put back the file that was there");
  }
  fail_system(path, "cut", "check that it is yours");
}

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

LineFile::LineFile(std::string path, std::int64_t keep)
    : path_(std::move(path)), descriptor_(open_cut(path_, keep)), bytes_(keep) {}

LineFile::~LineFile() { ::close(descriptor_); }

void LineFile::write(std::string_view line) {
  std::string bytes(line);
  bytes += '\n';
  if (!write_all(descriptor_, bytes.data(), bytes.size())) {
    const int reason = errno;
    const bool trimmed =
        ::ftruncate(descriptor_, bytes_) == 0 && ::lseek(descriptor_, bytes_, SEEK_SET) == bytes_;
    errno = reason;
    fail_system(path_, "written",
                trimmed ? kMakeRoom : "its last line is incomplete: free some space there");
  }
  bytes_ += static_cast<std::int64_t>(bytes.size());
}

void LineFile::sync() {
  if (!sync_all(descriptor_)) fail_system(path_, "written", kMakeRoom);
}

void write_file(const std::string& path, std::string_view text) {
  NewFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

void read_pieces(const std::string& path, const std::function<void(std::string_view)>& take) {
  const Descriptor file{open_to_read(path)};
  std::string buffer(std::size_t{1} << 18, '\0');
  while (true) {
    const ssize_t got = ::read(file.number, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_system(path, "read", "check the path");
    if (got == 0) return;
    take(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
  }
}

std::string read_file(const std::string& path, std::size_t max_bytes) {
  std::string text;
  read_pieces(path, [&](std::string_view piece) {
    if (text.size() + piece.size() > max_bytes) {
      fail(Exit::data, path, ": is larger than the ", max_bytes, " bytes such a file may have");
    }
    text += piece;
  });
  return text;
}

void sync_path(const std::string& path) {
  const Descriptor file{open_to_read(path)};
  if (!sync_all(file.number)) fail_system(path, "written", kMakeRoom);
}

}  // namespace tunas::engine
