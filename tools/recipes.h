// Recipes: sets of numbers that belong together. The defaults in the tables of options are the
// published recipe (specification sections 9, 10, 12, 16); `small` is what replaces them in runs
// too short for it, whose policy would stay uniform.
#pragma once

#include "tools/config.h"

namespace tunas::tools {

/// Published runs of fewer steps than this use `small` unless --recipe says otherwise.
inline constexpr std::int64_t kSmallBelow = 100'000;

inline const Recipe kSmallSearch = {
    {"epochs", "10"},
    {"batch-size", "64"},
    {"lr", "0.66"},
    {"controller-lr", "0.04"},
};

inline const Recipe kSmallTrain = {
    {"epochs", "10"},
    {"batch-size", "64"},
    {"lr", "0.66"},
};

}  // namespace tunas::tools
