#include "engine/checkpoint_writer.h"

#include <chrono>
#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

struct Ranked {
  std::string folder;
  std::optional<double> score;
};

/// Those of `root` up to `step` whose manifest can be read, newest first; the folders of the others
/// go to `damaged`. Their arrays are not read: that is for who opens one.
std::vector<Ranked> ranked(const std::string& root, std::int64_t step,
                           std::vector<std::string>& damaged) {
  std::vector<Ranked> all;
  const std::map<std::int64_t, std::string> folders = list_checkpoints(root);
  for (auto at = folders.rbegin(); at != folders.rend(); ++at) {
    if (at->first > step) continue;
    try {
      all.push_back({at->second, read_manifest(at->second).score});
    } catch (const Error& error) {
      if (error.code() == Exit::data) damaged.push_back(at->second);  // else of another version
    }
  }
  return all;
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::string root, int keep)
    : root_(std::move(root)), keep_(keep) {
  require(keep >= 1, keep, " checkpoints cannot be kept; keep 1 or more");
  std::error_code error;
  std::filesystem::create_directories(root_, error);
  if (error) {
    fail(Exit::data, root_, ": cannot be created (", error.message(), "); choose another place");
  }
  remove_leftovers(root_);
}

void CheckpointWriter::save(Snapshot&& snapshot) {
  check_snapshot(snapshot);
  wait();
  try {
    thread_ = std::thread([this, owned = std::move(snapshot)] {
      const auto begin = std::chrono::steady_clock::now();
      write(owned);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      const std::lock_guard lock(mutex_);
      seconds_ += took.count();
    });
  } catch (const std::system_error& error) {
    warn(root_ + ": no thread could be started for a checkpoint (" + error.what() +
         "); the run goes on without it and tries again at the next");
  }
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) thread_.join();
}

std::vector<std::string> CheckpointWriter::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

double CheckpointWriter::seconds() {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

void CheckpointWriter::remove_after(std::int64_t step) {
  wait();
  for (const auto& [at, folder] : list_checkpoints(root_)) {
    if (at > step) remove_checkpoint(folder);
  }
}

void CheckpointWriter::write(const Snapshot& snapshot) {
  std::string consequence = " (there is no checkpoint of step " + std::to_string(snapshot.step) +
                            ", the run goes on and tries again at the next)";
  try {
    write_checkpoint(root_, snapshot);
    consequence = " (the checkpoint of step " + std::to_string(snapshot.step) +
                  " is there, and the run goes on)";
    saved_ = snapshot.step;
    rotate(snapshot.step);
    last_failure_.clear();
  } catch (const Error& error) {
    warn(error.what() + consequence);
  } catch (const std::exception& error) {  // such as memory that is short: it names no path
    warn(root_ + ": " + error.what() + consequence);
  }
}

void CheckpointWriter::rotate(std::int64_t step) const {
  std::vector<std::string> doomed;
  const std::vector<Ranked> all = ranked(root_, step, doomed);
  const Ranked* best = nullptr;
  for (const Ranked& one : all) {  // the newest of equals
    if (one.score && (best == nullptr || *one.score > *best->score)) best = &one;
  }
  for (std::size_t i = static_cast<std::size_t>(keep_); i < all.size(); ++i) {
    if (&all[i] != best) doomed.push_back(all[i].folder);
  }
  for (const std::string& folder : doomed) remove_checkpoint(folder);
  remove_leftovers(root_);  // of a save that failed where nothing could be removed, either
}

void CheckpointWriter::warn(const std::string& sentence) {
  std::string failure = sentence;
  std::erase_if(failure, [](char c) { return c >= '0' && c <= '9'; });
  if (std::exchange(last_failure_, failure) == failure) return;
  const std::lock_guard lock(mutex_);
  warnings_.push_back(sentence);
}

}  // namespace tunas::engine
