#include "engine/checkpoint.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxStep = 999'999'999;
constexpr std::string_view kStep = "step-";
constexpr std::size_t kNameLength = kStep.size() + 9;
constexpr const char* kPart = ".part";
constexpr const char* kOld = ".old";

std::string name_of(std::int64_t step) { return fmt::format("{}{:09}", kStep, step); }

/// The step of a folder named step-NNNNNNNNN and `suffix`; none for any other name.
std::optional<std::int64_t> step_of(const std::string& name, std::string_view suffix) {
  if (name.size() != kNameLength + suffix.size() || name.rfind(kStep, 0) != 0 ||
      name.substr(kNameLength) != suffix) {
    return std::nullopt;
  }
  const std::string digits = name.substr(kStep.size(), kNameLength - kStep.size());
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::stoll(digits);
}

/// Names of the folders in `root`; none where it is absent.
std::vector<std::string> folders_in(const std::string& root) {
  std::vector<std::string> names;
  std::error_code error;
  if (!fs::exists(root, error) && !error) return names;
  for (fs::directory_iterator at(root, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_directory(gone)) names.push_back(at->path().filename().string());
  }
  if (error) fail(Exit::data, root, ": cannot be read (", error.message(), "); check the path");
  return names;
}

void rename_folder(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    fail(Exit::data, from, ": cannot be renamed to ", to, " (", error.message(),
         "); check that its folder is yours");
  }
}

void remove_folder(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    fail(Exit::data, folder, ": cannot be removed (", error.message(), "); remove it yourself");
  }
}

/// Makes `folder` if only it is missing, and its name lasting.
void make_folder(const std::string& folder) {
  std::error_code error;
  const bool made = fs::create_directory(folder, error);
  if (error) {
    fail(Exit::data, folder, ": cannot be created (", error.message(),
         "); check that its folder exists and is yours");
  }
  const fs::path parent = fs::path(folder).parent_path();
  if (made) sync_path(parent.empty() ? "." : parent.string());
}

/// At every moment the one before or the new one is there, under its name or aside.
void put_in_place(const std::string& part, const std::string& name, const std::string& root) {
  const std::string old = name + kOld;
  std::error_code error;
  if (fs::exists(name, error)) {
    remove_folder(old);
    rename_folder(name, old);
  }
  rename_folder(part, name);
  sync_path(root);
  fs::remove_all(old, error);  // a remainder is only in the way of space: remove_leftovers()
}

}  // namespace

void OwnedTensor::check(std::size_t bytes) const {
  std::uint64_t expected = safetensors_element(stored_.type);
  for (const std::int64_t extent : stored_.shape) expected *= static_cast<std::uint64_t>(extent);
  if (expected != bytes || safetensors_element(stored_.type) == 0) {
    fail(Exit::data, "tensor '", stored_.name, "' of a checkpoint: ", bytes,
         " bytes were given as ", stored_.type, ", whose shape takes ", expected);
  }
}

void check_snapshot(const Snapshot& snapshot) {
  require(snapshot.step >= 0 && snapshot.step <= kMaxStep, "a checkpoint of step ", snapshot.step,
          " has no name; steps go from 0 to ", kMaxStep);
  require(std::isfinite(snapshot.score.value_or(0)), "the checkpoint of step ", snapshot.step,
          " has a score that is no finite number; give none");
  std::set<std::string> names = {"", kManifest};
  for (const Snapshot::File& file : snapshot.files) {
    require(file.name.find('/') == std::string::npos && names.insert(file.name).second,
            "a checkpoint cannot hold the file '", file.name,
            "'; give each a plain name of its own");
  }
}

void write_checkpoint(const std::string& root, const Snapshot& snapshot) {
  check_snapshot(snapshot);
  const std::string name = root + "/" + name_of(snapshot.step), part = name + kPart;
  try {
    make_folder(root);
    remove_folder(part);
    make_folder(part);
    Manifest manifest{snapshot.step, snapshot.score, snapshot.config, snapshot.lines, {}};
    for (const Snapshot::File& file : snapshot.files) {
      std::vector<StoredTensor> tensors;
      for (const OwnedTensor& tensor : file.tensors) tensors.push_back(tensor.stored());
      manifest.files.emplace_back(
          file.name, write_safetensors(part + "/" + file.name, tensors, file.metadata));
    }
    for (const std::string& path : snapshot.sync_first) sync_path(path);
    write_manifest(part, manifest);
    sync_path(part);
    put_in_place(part, name, root);
  } catch (...) {
    std::error_code error;
    fs::remove_all(part, error);
    throw;
  }
}

Checkpoint::Checkpoint(std::string folder)
    : folder_(std::move(folder)), manifest_(read_manifest(folder_)) {
  const std::optional<std::int64_t> named = step_of(fs::path(folder_).filename().string(), "");
  if (named && *named != manifest_.step) {
    fail(Exit::data, folder_, ": is the checkpoint of step ", manifest_.step,
         "; give it back its name");
  }
  for (const auto& [name, sum] : manifest_.files) {
    const std::string path = folder_ + "/" + name;
    const FileSum found = sum_file(path);
    if (found != sum) {
      fail(Exit::data, path, ": is damaged (", found.bytes, " bytes with XXH64 ", found.xxh64,
           ", where ", sum.bytes, " with ", sum.xxh64, " were written); use an older checkpoint");
    }
    files_[name] = std::make_unique<const Safetensors>(path);
  }
}

const Safetensors& Checkpoint::file(const std::string& name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) {
    fail(Exit::data, folder_, ": has no file ", name, "; was it written by another kind of run?");
  }
  return *found->second;
}

std::map<std::int64_t, std::string> list_checkpoints(const std::string& root) {
  std::map<std::int64_t, std::string> folders;
  for (const std::string& name : folders_in(root)) {
    const std::string folder = root + "/" + name;
    if (const auto step = step_of(name, "")) folders.insert_or_assign(*step, folder);
    if (const auto step = step_of(name, kOld)) folders.emplace(*step, folder);
  }
  return folders;
}

std::optional<Checkpoint> newest_checkpoint(const std::string& root,
                                            std::vector<std::string>& warnings) {
  const std::map<std::int64_t, std::string> folders = list_checkpoints(root);
  std::optional<Checkpoint> newest;
  std::vector<std::string> damaged;
  for (auto at = folders.rbegin(); at != folders.rend() && !newest; ++at) {
    try {
      newest.emplace(at->second);
    } catch (const Error& error) {
      if (error.code() != Exit::data)
        throw;  // of another version: whole, and not to be passed over
      damaged.push_back(error.what());
    }
  }
  const std::string instead =
      newest ? "that of step " + std::to_string(newest->step()) + " is used" : "there is none";
  for (const std::string& sentence : damaged) warnings.push_back(sentence + " (" + instead + ")");
  return newest;
}

void remove_checkpoint(const std::string& folder) {
  const fs::path path(folder);
  const std::string name = path.filename().string().substr(0, kNameLength);
  const std::string part = (path.parent_path() / (name + kPart)).string();
  remove_folder(part);
  rename_folder(folder, part);
  remove_folder(part);
}

void remove_leftovers(const std::string& root) {
  const std::map<std::int64_t, std::string> folders = list_checkpoints(root);
  for (const std::string& name : folders_in(root)) {
    const std::string folder = root + "/" + name;
    const auto old = step_of(name, kOld);
    if (step_of(name, kPart) || (old && folders.at(*old) != folder)) remove_folder(folder);
  }
}

}  // namespace tunas::engine
