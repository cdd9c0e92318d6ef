// JSON lines: one object a line, keys in the order they were put in, numbers as the shortest
// decimals that read back to the same double. The same values give the same bytes.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/file.h"

namespace tunas::engine {

using Json = nlohmann::ordered_json;

class JsonLines {
 public:
  /// Creates `path`; Error(Exit::data) where that is impossible.
  explicit JsonLines(std::string path);
  /// Continues a file after its first `keep` bytes, as LineFile does.
  JsonLines(std::string path, std::int64_t keep);

  /// Appends one object. Error(Exit::numeric) naming the key whose value is not finite (JSON has no
  /// such numbers); Error(Exit::data) on a full disk, with all earlier lines whole.
  void write(const Json& object);
  void sync() { file_.sync(); }
  std::int64_t bytes() const { return file_.bytes(); }

 private:
  std::string path_;
  LineFile file_;
};

}  // namespace tunas::engine
