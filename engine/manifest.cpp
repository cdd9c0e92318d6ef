#include "engine/manifest.h"

#include <algorithm>
#include <string_view>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

constexpr int kVersion = 1;

/// What stands behind the bytes that are hashed.
std::string tail_of(std::string_view body) {
  Hash hash;
  hash.add(body.data(), body.size());
  return ",\n \"xxh64\": \"" + hash.digits() + "\"\n}\n";
}

Json to_json(const Manifest& manifest) {
  Json files = Json::array();
  for (const auto& [name, sum] : manifest.files) {
    files.push_back({{"name", name}, {"bytes", sum.bytes}, {"xxh64", sum.xxh64}});
  }
  const Json score = manifest.score ? Json(*manifest.score) : Json();
  return {{"version", kVersion},       {"step", manifest.step},   {"score", score},
          {"config", manifest.config}, {"lines", manifest.lines}, {"files", files}};
}

Manifest from_json(const Json& root, const std::string& path) {
  const int version = root.at("version").get<int>();
  if (version != kVersion) {
    fail(Exit::usage, path, ": is of version ", version, ", but this program reads version ",
         kVersion, "; continue with the program that wrote it");
  }
  Manifest manifest;
  manifest.step = root.at("step").get<std::int64_t>();
  if (!root.at("score").is_null()) manifest.score = root.at("score").get<double>();
  manifest.config = root.at("config");
  manifest.lines = root.at("lines");
  for (const Json& file : root.at("files")) {
    manifest.files.emplace_back(
        file.at("name").get<std::string>(),
        FileSum{file.at("bytes").get<std::uint64_t>(), file.at("xxh64").get<std::string>()});
  }
  return manifest;
}

}  // namespace

void write_manifest(const std::string& folder, const Manifest& manifest) {
  std::string text = to_json(manifest).dump(1);
  text.resize(text.size() - 2);  // "\n}", which the tail brings
  write_file(folder + "/" + kManifest, text + tail_of(text));
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifest;
  const std::string text = read_file(path);
  static const std::size_t tail = tail_of("").size();
  const std::string body = text.substr(0, text.size() - std::min(text.size(), tail));
  if (text != body + tail_of(body)) {
    fail(Exit::data, path, ": is damaged (the XXH64 at its end is not that of its text); ",
         "use an older checkpoint");
  }
  try {
    return from_json(Json::parse(text), path);
  } catch (const Json::exception& error) {
    fail(Exit::data, path, ": is no manifest of a checkpoint (", error.what(),
         "); use an older checkpoint");
  }
}

}  // namespace tunas::engine
