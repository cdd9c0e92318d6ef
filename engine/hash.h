// XXH64 (seed 0) of bytes that come in pieces, as 16 hexadecimal digits: it finds damage, not
// malice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct XXH64_state_s;

namespace tunas::engine {

class Hash {
 public:
  Hash();
  void add(const void* data, std::size_t bytes);
  std::string digits() const;

 private:
  struct Free {
    void operator()(XXH64_state_s* state) const;
  };
  std::unique_ptr<XXH64_state_s, Free> state_;
};

/// How a file is known again: its length and the hash of all its bytes.
struct FileSum {
  std::uint64_t bytes = 0;
  std::string xxh64;

  bool operator==(const FileSum&) const = default;
};

/// Error(Exit::data) where the file cannot be read.
FileSum sum_file(const std::string& path);

}  // namespace tunas::engine
