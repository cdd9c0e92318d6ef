// manifest.json of a checkpoint: what it is of, and the sums by which each of its files is known.
//
//   {
//    "version": 1, "step": 400, "score": 0.71 or null, "config": {...}, "lines": {...},
//    "files": [{"name": "weights.safetensors", "bytes": 1234, "xxh64": "16 digits"}, ...],
//    "xxh64": "16 digits"
//   }
//
// The last key guards the manifest itself: it is the XXH64 of all bytes before the comma in front
// of it, and what follows is held to the one form it may have, so that no bit can change unseen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/hash.h"
#include "engine/metrics.h"

namespace tunas::engine {

inline constexpr const char* kManifest = "manifest.json";

struct Manifest {
  std::int64_t step = 0;
  std::optional<double> score;  // larger is better
  Json config = Json::object();
  Json lines = Json::object();  // lengths of the run's files of lines at this step, in bytes
  std::vector<std::pair<std::string, FileSum>> files;  // by name
};

/// Writes it into `folder`, complete or not at all. Error(Exit::data) where that fails.
void write_manifest(const std::string& folder, const Manifest& manifest);
/// Error(Exit::data) naming the file: missing or damaged; Error(Exit::usage): of another version.
Manifest read_manifest(const std::string& folder);

}  // namespace tunas::engine
