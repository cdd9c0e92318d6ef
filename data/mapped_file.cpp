#include "data/mapped_file.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace tunas::data {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info = {};
  if (file < 0 || fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    const char* reason = file < 0 ? std::strerror(errno) : "not a file";
    if (file >= 0) close(file);
    fail(Exit::data, path, ": cannot be opened (", reason, "); check the path and its permissions");
  }
  size_ = static_cast<std::size_t>(info.st_size);
  changed_ = info.st_mtim;
  void* const data = size_ ? mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0) : nullptr;
  const int reason = errno;
  close(file);
  if (data == MAP_FAILED) {
    fail(Exit::data, path, ": cannot be mapped (", std::strerror(reason),
         "); is its file system a local or network disk?");
  }
  data_ = data;
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

void MappedFile::expect(Access access) const {
  // Advice only: where the system does not take it, reading is slower and nothing else.
  if (data_) (void)madvise(data_, size_, access == Access::jumps ? MADV_RANDOM : MADV_NORMAL);
}

std::vector<std::string> matching_files(const std::string& pattern, const std::string& spec) {
  glob_t found = {};
  const int code = glob(pattern.c_str(), GLOB_TILDE | GLOB_BRACE, nullptr, &found);
  std::vector<std::string> all(found.gl_pathv, found.gl_pathv + (code ? 0 : found.gl_pathc));
  globfree(&found);
  std::sort(all.begin(), all.end());  // braces are matched one after the other
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::vector<std::string> paths;
  for (const std::string& path : all) {
    const bool index = path.ends_with(".index") || path.ends_with(".index.part");
    const std::string base = path.substr(0, path.rfind(".index"));
    if (!index || !std::binary_search(all.begin(), all.end(), base)) paths.push_back(path);
  }
  if (paths.empty()) {
    fail(Exit::data, spec, ": no file matches; quote the pattern and check the folder");
  }
  return paths;
}

}  // namespace tunas::data
