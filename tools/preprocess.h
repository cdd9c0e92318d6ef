// How images are shown to a network (engine/preprocess.h): the options that say it, and its place
// in arch.json, where a training leaves what it used and an evaluation finds it:
//
//   "preprocess": {"resize": 256, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406],
//                  "std": [0.229, 0.224, 0.225]}
//
// Means and deviations are of colours from 0 to 1; resize 0 is the central crop of 0.875.
#pragma once

#include <string>
#include <vector>

#include "engine/preprocess.h"
#include "tools/config.h"

namespace tunas::tools {

/// --preprocess.
Option preprocess_option();
/// The preset of --preprocess: tf, or torchvision's, whose shorter side is resolution/0.875.
Preprocess preset(const std::string& name, int resolution);

/// --resize, --interpolation, --mean, --std.
std::vector<Option> preprocess_options();
/// `usual` where no option says otherwise.
Preprocess overridden(const Preprocess& usual, const Config& config);

nlohmann::ordered_json describe(const Preprocess& preprocess);
/// Error(Exit::data), beginning with `where`, for what describe would not write.
Preprocess read_preprocess(const nlohmann::ordered_json& json, const std::string& where);
/// "shorter side to 256, bilinear, mean 0.5 0.5 0.5, std 0.5 0.5 0.5".
std::string text(const Preprocess& preprocess);

}  // namespace tunas::tools
