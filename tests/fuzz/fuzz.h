// What the targets share. A target hands bytes to a reader of files: any bytes must be read or
// refused with an Error of the data (or the usage, for what a person types), never more.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "kernels/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace tunas::fuzz {

using Bytes = std::span<const std::uint8_t>;

/// Ends the process, for libFuzzer to keep the input.
inline void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "expected: %s\n", what);
  std::abort();
}

/// Runs `read`; false where it refused the input.
template <class Read>
bool accepts(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    expect(error.code() == Exit::data || error.code() == Exit::usage, "an Error of the input");
    expect(error.what()[0] != '\0', "an Error with a sentence");
    return false;
  }
}

/// Bytes as a file that needs no disk.
class File {
 public:
  explicit File(Bytes bytes) : descriptor_(memfd_create("input", MFD_CLOEXEC)) {
    expect(descriptor_ >= 0, "a file in memory");
    const auto written = ::write(descriptor_, bytes.data(), bytes.size());
    expect(written == std::ssize(bytes), "a file of all the bytes");
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace tunas::fuzz
