#include "tools/preprocess.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<std::string> kInterpolations(std::begin(kResampleNames),
                                               std::end(kResampleNames));

constexpr double kWhite = 255;

std::string number(double value) { return fmt::format("{:.6g}", value); }

/// Three numbers between commas, each above `above` and at most 1.
void read_three(const Config& config, const std::string& name, double least, float (&out)[3]) {
  if (!config.has(name)) return;
  const std::string& text = config.text(name);
  const char* at = text.c_str();
  for (int c = 0; c < 3; ++c) {
    char* end = nullptr;
    const double value = std::strtod(at, &end);
    const bool fits = end != at && value >= least && value <= 1 && *end == (c < 2 ? ',' : '\0');
    require(fits, config.from(name), ": '", text, "' is not three numbers from ", number(least),
            " to 1, as in 0.485,0.456,0.406");
    out[c] = static_cast<float>(value * kWhite);
    at = end + 1;
  }
}

constexpr double kLeastStd = 1e-3;

}  // namespace

Option preprocess_option() {
  return {.name = "preprocess",
          .fallback = "tf",
          .help =
              "how images are cropped and resized: as published, or as torchvision does it "
              "(area and aspect of crops by another law, antialiased bilinear)",
          .choices = {"tf", "torchvision"}};
}

Preprocess preset(const std::string& name, int resolution) {
  Preprocess preset;
  if (name == "torchvision") {
    preset.resize = static_cast<int>(std::lround(resolution / 0.875));
    preset.resample = Resample::bilinear;
  }
  return preset;
}

std::vector<Option> preprocess_options() {
  return {{.name = "resize",
           .type = Type::integer,
           .unit = "pixels",
           .help = "of the shorter side before the central crop; 0: the central 0.875 is resized",
           .least = 0,
           .most = 16384},
          {.name = "interpolation", .help = "of the resizing", .choices = kInterpolations},
          {.name = "mean", .unit = "R,G,B", .help = "taken off the colours, from 0 to 1"},
          {.name = "std", .unit = "R,G,B", .help = "the colours are divided by, from 0.001 to 1"}};
}

Preprocess overridden(const Preprocess& usual, const Config& config) {
  Preprocess changed = usual;
  if (config.has("resize")) changed.resize = static_cast<int>(config.integer("resize"));
  if (config.has("interpolation")) {
    const auto found =
        std::find(kInterpolations.begin(), kInterpolations.end(), config.text("interpolation"));
    changed.resample = static_cast<Resample>(found - kInterpolations.begin());
  }
  read_three(config, "mean", 0, changed.normalization.mean);
  read_three(config, "std", kLeastStd, changed.normalization.std);
  return changed;
}

Json describe(const Preprocess& preprocess) {
  const auto three = [](const float(&values)[3]) {
    Json list = Json::array();
    for (const float v : values) list.push_back(std::round(v / kWhite * 1e6) / 1e6);
    return list;
  };
  return {{"resize", preprocess.resize},
          {"interpolation", kInterpolations[static_cast<std::size_t>(preprocess.resample)]},
          {"mean", three(preprocess.normalization.mean)},
          {"std", three(preprocess.normalization.std)}};
}

Preprocess read_preprocess(const Json& json, const std::string& where) {
  Preprocess read;
  const auto three = [&](const char* key, double least, float(&out)[3]) {
    const Json& list = json.at(key);
    for (std::size_t c = 0; c < 3; ++c) {
      const double value = list.at(c).get<double>();
      if (!(value >= least && value <= 1) || list.size() != 3) throw std::out_of_range(key);
      out[c] = static_cast<float>(value * kWhite);
    }
  };
  try {
    read.resize = json.at("resize").get<int>();
    const auto name = json.at("interpolation").get<std::string>();
    const auto found = std::find(kInterpolations.begin(), kInterpolations.end(), name);
    if (read.resize < 0 || found == kInterpolations.end()) throw std::out_of_range(name);
    read.resample = static_cast<Resample>(found - kInterpolations.begin());
    three("mean", 0, read.normalization.mean);
    three("std", kLeastStd, read.normalization.std);
  } catch (const std::exception&) {
    fail(Exit::data, where, ": its preprocess ", json.dump(), " is not of the form ",
         describe(Preprocess()).dump());
  }
  return read;
}

std::string text(const Preprocess& preprocess) {
  const Json json = describe(preprocess);
  const auto three = [&](const char* key) {
    return fmt::format("{} {} {}", json[key][0].dump(), json[key][1].dump(), json[key][2].dump());
  };
  return fmt::format("{}, {}, mean {}, std {}",
                     preprocess.resize > 0 ? fmt::format("shorter side to {}", preprocess.resize)
                                           : "central 0.875",
                     json["interpolation"].get<std::string>(), three("mean"), three("std"));
}

}  // namespace tunas::tools
