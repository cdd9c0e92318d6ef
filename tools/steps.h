// How long a run is and how its batches are cut: steps of `batch` images over `shards` shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/config.h"
#include "tools/recipes.h"

namespace tunas::tools {

/// --recipe, --epochs, --steps, --batch-size, --shards, --lr, --seed.
std::vector<Option> step_options(const Recipes& recipes);

struct Steps {
  std::int64_t steps = 0;
  double epochs = 0;  // what the steps amount to
  int batch = 0;      // images of a step, over all shards
  int shards = 0;
  std::string recipe;

  int per_shard() const { return batch / shards; }
  /// A rate given per 256 images of the batch, as published.
  double rate(double per_256) const { return per_256 * batch / 256; }
  /// "400 steps of 4 x 32 images, 0.9 epochs, recipe small".
  std::string text() const;
};

/// Chooses the recipe, puts its numbers into `config` and reads the values for `examples` images.
Steps plan_steps(Config& config, const Recipes& recipes, std::int64_t examples);

}  // namespace tunas::tools
