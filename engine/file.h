// Files that are complete or absent. A NewFile is written beside its name (path + ".part"), fsynced
// and renamed by commit(), so a kill or a full disk never leaves half a file under the real name
// and never costs the file that was there before. Links are followed; what is no plain file or may
// not be written is refused at once. A LineFile only ever holds whole lines.
//
// All errors are Error(Exit::data) with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tunas::engine {

class NewFile {
 public:
  explicit NewFile(const std::string& path);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();  // without commit(): what was written is removed

  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  std::string path_;
  int descriptor_ = -1;
};

class LineFile {
 public:
  explicit LineFile(std::string path);  // created empty
  /// Continues a file that is there after its first `keep` bytes; what follows them is cut off. It
  /// must be that long and have a line that ends there.
  LineFile(std::string path, std::int64_t keep);
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;
  ~LineFile();

  /// Appends `line` and '\n'. When it throws, the file still ends with the line before.
  void write(std::string_view line);
  void sync();
  std::int64_t bytes() const { return bytes_; }

 private:
  std::string path_;
  int descriptor_ = -1;
  std::int64_t bytes_ = 0;
};

void write_file(const std::string& path, std::string_view text);
/// The whole file, which must not be larger than `max_bytes`.
std::string read_file(const std::string& path, std::size_t max_bytes = std::size_t{1} << 28);
/// Hands out the bytes of a file of any length, in pieces.
void read_pieces(const std::string& path, const std::function<void(std::string_view)>& take);
/// Returns when what was written to this file, or the names in this folder, are on the disk.
void sync_path(const std::string& path);

}  // namespace tunas::engine
