// Recipes: sets of numbers that belong together. The defaults in the tables of options are the
// published recipe (specification sections 9, 10, 12, 16), which is the first of a verb's recipes;
// `small` is what replaces it in runs too short for it, whose policy would stay uniform.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/config.h"

namespace tunas::tools {

struct NamedRecipe {
  std::string name;
  Recipe values;
};
/// Of a verb: the published one first, `small` among them.
struct Recipes {
  std::vector<NamedRecipe> all;
  int small_shards = 1;  // at least, under small
};

/// Published runs of fewer steps than this use `small` unless --recipe says otherwise.
inline constexpr std::int64_t kSmallBelow = 100'000;

/// Chosen for 10 to 20 thousand small images, not swept: more steps of fewer images, so that there
/// are steps enough to learn in; crops that still show the object (min-area); half of the
/// published validation batch, because scoring is most of a step.
inline const Recipe kSmallSearch = {
    {"epochs", "10"}, {"batch-size", "128"},   {"lr", "0.3"},
    {"beta", "-0.5"}, {"val-multiplier", "2"}, {"min-area", "0.35"},
};
/// With one architecture a step, the baseline is all that would tell good from bad: four at least.
inline const Recipes kSearchRecipes = {{{"published", {}}, {"small", kSmallSearch}}, 4};

/// The controller of a short search. Its Adam moves a logit by about its rate a step, whatever the
/// size of the rewards, so what a policy can learn is the sum of its rates: with 80/steps (and the
/// tenfold growth) simulated searches of 800 to 1000 steps ended within 2.5 % of the target, their
/// entropy at 2 to 5 of 49 nats. A real one of 1500 steps in a larger space ended 0.1 % under the
/// target, its entropy at 22 of 97 nats (bench/results/cpu-cifar10-found.json). The rewards of
/// small validation batches are noisy, so the cost must weigh more than the published -0.1.
inline Recipe small_controller(std::int64_t steps, int batch) {
  const double rate = 80.0 / static_cast<double>(std::max<std::int64_t>(steps, 200));
  return {{"controller-lr", fmt::format("{}", rate * 256 / batch)}};
}

inline const Recipe kSmallTrain = {
    {"epochs", "10"},
    {"batch-size", "128"},
    {"lr", "0.3"},
    {"min-area", "0.35"},
};

/// How torchvision trains MobileNetV2: references/classification, "--model mobilenet_v2
/// --epochs 300 --lr 0.045 --wd 0.00004 --lr-step-size 1 --lr-gamma 0.98" on 8 GPUs of 32 images,
/// with its defaults for the rest (its symmetric padding is the architecture's to say).
inline const Recipe kTorchvisionSgd = {
    {"preprocess", "torchvision"}, {"optimizer", "sgd"}, {"epochs", "300"},
    {"batch-size", "256"},         {"shards", "8"},      {"lr", "0.045"},
    {"schedule", "step"},          {"lr-gamma", "0.98"}, {"weight-decay", "4e-5"},
    {"label-smoothing", "0"},      {"dropout", "0.2"},   {"bn-momentum", "0.9"},
};

inline const Recipes kTrainRecipes = {{{"tunas-90", {}},
                                       {"tunas-360", {{"epochs", "360"}}},
                                       {"torchvision-sgd", kTorchvisionSgd},
                                       {"small", kSmallTrain}}};

/// The running averages of a short training remember its last sixteenth. With the published 0.99,
/// those of 400 steps still held means of the network as it was at its larger rates: 1 of 14 seeds
/// scored 0.32 where a hundred more steps at a rate of zero brought 0.71, and 0.80 in the end.
inline Recipe small_running_averages(std::int64_t steps) {
  const double window = std::clamp(static_cast<double>(steps) / 16, 10.0, 100.0);
  return {{"bn-momentum", fmt::format("{}", 1 - 1 / window)}};
}

}  // namespace tunas::tools
