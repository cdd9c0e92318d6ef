#include "tools/run_folder.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace tunas::tools {
namespace {

/// In the order in which they are removed: to the last the folder is known as a run's.
constexpr const char* kFiles[] = {"log.txt",    "metrics.jsonl",       "timing.jsonl",
                                  "arch.json",  "weights.safetensors", "weights_last.safetensors",
                                  "config.json"};

/// What lies in a run's folder before its configuration does: other ranks may be waiting there
/// (engine/rendezvous.h), or the run was killed at its very start.
bool precedes_run(const std::filesystem::path& path) {
  const std::filesystem::path name = path.filename();
  std::error_code error;
  return name == "rendezvous" || name == "lock" || name == "config.json.part" ||
         (name == "checkpoints" && std::filesystem::is_empty(path, error));
}

[[noreturn]] void fail_system(const std::string& path, const char* what, const std::error_code& e) {
  fail(Exit::data, path, ": cannot be ", what, " (", e.message(), "); choose another --out");
}

}  // namespace

RunFolder::RunFolder(std::string path, Existing existing) : path_(std::move(path)) {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (!std::filesystem::exists(status)) {
    std::filesystem::path above = std::filesystem::absolute(path_).parent_path();
    while (!std::filesystem::exists(above, error) && above.has_relative_path()) {
      above = above.parent_path();
    }
    if (!std::filesystem::is_directory(above, error) || ::access(above.c_str(), W_OK) != 0) {
      fail(Exit::data, path_, ": cannot be created, ", above.string(),
           " is no folder that can be written; choose another --out");
    }
    return;
  }
  require(std::filesystem::is_directory(status), path_,
          ": is there already and is no folder; choose another --out");
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    empty_ = empty_ && precedes_run(entry.path());
  }
  if (error) fail_system(path_, "read", error);
  require(empty_ || existing != Existing::refuse, path_,
          ": is there already and is not empty; choose another --out, --resume auto to go on with "
          "the run in it, or --overwrite to replace it");
  const bool run = std::filesystem::exists(file("config.json"), error) ||
                   std::filesystem::exists(file("arch.json"), error);
  require(empty_ || run, path_, ": holds files, but no run to ",
          existing == Existing::resume ? "resume" : "overwrite", "; choose another --out");
}

void RunFolder::create() const {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) fail_system(path_, "created", error);
}

void RunFolder::lock() {
  if (!lock_) lock_ = std::make_shared<engine::FolderLock>(path_);
}

void RunFolder::clear() const {
  std::error_code error;
  for (const char* name : kFiles) {
    for (const char* suffix : {"", ".part"}) {
      std::filesystem::remove(file(name) + suffix, error);
      if (error) fail_system(file(name), "removed", error);
    }
  }
}

std::string RunFolder::file(const std::string& name) const {
  return (std::filesystem::path(path_) / name).string();
}

}  // namespace tunas::tools
