// Snapshots whose contents follow from their step, and a folder for their checkpoints.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint.h"

namespace tunas::engine {

inline std::vector<float> weights_of(std::int64_t step, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(step) + 0.5f * static_cast<float>(i);
  }
  return values;
}

inline std::vector<double> state_of(std::int64_t step) {
  return {static_cast<double>(step) + 0.1, 1.0 / static_cast<double>(step + 3)};
}

inline Snapshot snapshot_of(std::int64_t step, std::optional<double> score = std::nullopt,
                            std::size_t count = 6) {
  Snapshot snapshot;
  snapshot.step = step;
  snapshot.score = score;
  snapshot.config = {{"space", "small"}, {"lr", 0.1}};
  snapshot.lines = {{"metrics.jsonl", 100 + step}};
  Snapshot::File weights{"weights.safetensors", {}, {{"space", "small"}}};
  const auto rows = static_cast<std::int64_t>(count / 2);
  weights.tensors.emplace_back("blocks/0/kernel", "F32", Shape{rows, 2}, weights_of(step, count));
  Snapshot::File state{"state.safetensors", {}, {}};
  state.tensors.emplace_back("controller", "F64", Shape{2}, state_of(step));
  state.tensors.emplace_back("step", "I64", Shape{}, std::vector<std::int64_t>{step});
  snapshot.files.push_back(std::move(weights));
  snapshot.files.push_back(std::move(state));
  return snapshot;
}

/// That `checkpoint` holds what snapshot_of(its step) put there.
inline void expect_contents(const Checkpoint& checkpoint, std::size_t count = 6) {
  const std::int64_t step = checkpoint.step();
  EXPECT_EQ(checkpoint.file("weights.safetensors").read_floats("blocks/0/kernel"),
            weights_of(step, count));
  std::vector<double> state(2);
  checkpoint.file("state.safetensors").read("controller", "F64", {2}, state.data());
  EXPECT_EQ(state, state_of(step));
  std::int64_t stored = -1;
  checkpoint.file("state.safetensors").read("step", "I64", {}, &stored);
  EXPECT_EQ(stored, step);
  EXPECT_EQ(checkpoint.lines().at("metrics.jsonl"), 100 + step);
}

class CheckpointFolder : public testing::Test {
 protected:
  CheckpointFolder() { std::filesystem::create_directories(run_); }
  ~CheckpointFolder() override { std::filesystem::remove_all(run_); }

  /// Names in the root, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(root_)) {
      all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  std::filesystem::path run_ =
      std::filesystem::temp_directory_path() / ("tunas_checkpoint_" + std::to_string(::getpid()));
  std::string root_ = (run_ / "checkpoints").string();
};

}  // namespace tunas::engine
