// Files as memory: mapped, not read, so that opening a hundred gigabytes costs nothing.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tunas::data {

using ByteSpan = std::span<const std::uint8_t>;

class MappedFile {
 public:
  /// Error(data) naming `path` where it cannot be opened or is no regular file.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  ByteSpan bytes() const { return {static_cast<const std::uint8_t*>(data_), size_}; }
  const std::string& path() const { return path_; }
  /// As it was when the file was opened.
  const timespec& changed() const { return changed_; }

  /// jumps: each touch reads one page and not its neighbours, for walking over headers.
  enum class Access : unsigned char { usual, jumps };
  void expect(Access access) const;

 private:
  std::string path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
  timespec changed_ = {};
};

/// The files that match, in alphabetical order, without the indices (FILE.index) that lie beside
/// them. Error(data) naming `spec` where there is none.
std::vector<std::string> matching_files(const std::string& pattern, const std::string& spec);

}  // namespace tunas::data
