#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace tunas::data {
namespace {

/// Uniform in [0, n).
int uniform_int(std::uint32_t bits, int n) {
  return static_cast<int>(std::uint64_t{bits} * static_cast<std::uint64_t>(n) >> 32);
}

int rounded(float x) { return static_cast<int>(std::lrintf(x)); }

/// The largest height whose area is allowed and whose width fits.
int largest_height(Size image, float max_area, float aspect) {
  int height = rounded(std::sqrt(max_area / aspect));
  if (rounded(static_cast<float>(height) * aspect) > image.w) {
    constexpr float kEpsilon = 1e-7f;
    height = static_cast<int>((image.w + 0.5 - kEpsilon) / aspect);
    if (rounded(static_cast<float>(height) * aspect) > image.w) --height;
  }
  return std::min(height, image.h);
}

constexpr int kLongest = 1 << 24;  // pixels of a resized side

/// The axis of `frame` pixels, resized to `size`, of which `out` positions are shown.
CropAxis central_axis(int frame, int size, int out, Resample resample) {
  CropAxis axis = {frame, size, static_cast<int>(std::lrint((size - out) / 2.0)), 0};
  axis.begin = kernels::source_range(resample, axis, out).first;
  return axis;
}

}  // namespace

Region central_crop(Size image) {
  const int side = std::max(1, static_cast<int>(0.875 * std::min(image.h, image.w)));
  return {(image.h - side + 1) / 2, (image.w - side + 1) / 2, side, side};
}

View evaluation_view(Size image, const Preprocess& preprocess, int resolution) {
  if (preprocess.resize == 0) return {central_crop(image), false};
  require(preprocess.resize >= resolution, "the shorter side is resized to ", preprocess.resize,
          ", less than the crop of ", resolution, "; use a larger --resize");
  const int shorter = std::min(image.h, image.w);
  const auto resized = [&](int side) {
    const double size = static_cast<double>(preprocess.resize) * side / shorter;
    if (size > kLongest) {
      fail(Exit::data, "its sides are ", image.h, " and ", image.w, ": too thin to be resized");
    }
    return static_cast<int>(size);
  };
  View view;
  view.y = central_axis(image.h, resized(image.h), resolution, preprocess.resample);
  view.x = central_axis(image.w, resized(image.w), resolution, preprocess.resample);
  const auto count = [&](const CropAxis& axis) {
    return kernels::source_range(preprocess.resample, axis, resolution).count;
  };
  view.region = {view.y.begin, view.x.begin, count(view.y), count(view.x)};
  return view;
}

namespace {

std::optional<Region> try_torchvision_crop(Size image, const CropRule& rule, const Random4& draws) {
  const double pixels = static_cast<double>(image.h) * image.w;
  const auto between = [&](int i, double low, double high) {
    return low + uniform_float(draws.v[i]) * (high - low);
  };
  const double area = pixels * between(0, rule.min_area, rule.max_area);
  const double aspect = std::exp(between(1, std::log(rule.min_aspect), std::log(rule.max_aspect)));
  Region crop;
  crop.w = static_cast<int>(std::lrint(std::sqrt(area * aspect)));
  crop.h = static_cast<int>(std::lrint(std::sqrt(area / aspect)));
  if (crop.w < 1 || crop.h < 1 || crop.w > image.w || crop.h > image.h) return {};
  crop.y = uniform_int(draws.v[2], image.h - crop.h + 1);
  crop.x = uniform_int(draws.v[3], image.w - crop.w + 1);
  return crop;
}

/// Where no crop was found.
Region torchvision_fallback(Size image, const CropRule& rule) {
  const double aspect = static_cast<double>(image.w) / image.h;
  Region crop = {0, 0, image.h, image.w};
  if (aspect < rule.min_aspect) {
    crop.h = std::min(image.h, static_cast<int>(std::lrint(image.w / double{rule.min_aspect})));
  } else if (aspect > rule.max_aspect) {
    crop.w = std::min(image.w, static_cast<int>(std::lrint(image.h * double{rule.max_aspect})));
  }
  crop.y = (image.h - crop.h) / 2;
  crop.x = (image.w - crop.w) / 2;
  return crop;
}

}  // namespace

std::optional<Region> try_crop(Size image, const CropRule& rule, const Random4& draws) {
  if (rule.law == CropLaw::torchvision) return try_torchvision_crop(image, rule, draws);
  const float w = static_cast<float>(image.w), h = static_cast<float>(image.h);
  const float min_area = rule.min_area * w * h, max_area = rule.max_area * w * h;
  const float aspect =
      uniform_float(draws.v[0]) * (rule.max_aspect - rule.min_aspect) + rule.min_aspect;

  const int largest = largest_height(image, max_area, aspect);
  Region crop;
  crop.h = std::min(rounded(std::sqrt(min_area / aspect)), largest);
  crop.h += uniform_int(draws.v[1], largest - crop.h + 1);
  const auto fit_width = [&] {
    crop.w = rounded(static_cast<float>(crop.h) * aspect);
    return static_cast<float>(crop.w) * static_cast<float>(crop.h);
  };
  float area = fit_width();
  if (area < min_area) {
    ++crop.h;
    area = fit_width();
  }
  if (area > max_area) {
    --crop.h;
    area = fit_width();
  }
  const bool fits = crop.h > 0 && crop.w > 0 && crop.h <= image.h && crop.w <= image.w;
  if (!fits || area < min_area || area > max_area || area / (w * h) < rule.min_covered) return {};
  if (crop.h < image.h) crop.y = uniform_int(draws.v[2], image.h - crop.h);
  if (crop.w < image.w) crop.x = uniform_int(draws.v[3], image.w - crop.w);
  return crop;
}

void check_rule(const CropRule& rule) {
  require(rule.min_area > 0 && rule.min_area <= rule.max_area && rule.max_area <= 1, "crops of ",
          rule.min_area, " to ", rule.max_area, " of the image; give 0 < smallest <= largest <= 1");
  require(rule.min_aspect > 0 && rule.min_aspect <= rule.max_aspect && rule.attempts >= 0,
          "crops of aspect ", rule.min_aspect, " to ", rule.max_aspect, " cannot be drawn");
}

View random_view(Size image, const CropRule& rule, const AugmentKey& key) {
  const auto draw = [&](int attempt) {
    return philox({key.seed, Purpose::augment, key.epoch, static_cast<std::uint32_t>(attempt)},
                  static_cast<std::uint64_t>(key.sample));
  };
  const bool torchvision = rule.law == CropLaw::torchvision;
  View view = {torchvision ? torchvision_fallback(image, rule) : central_crop(image),
               (draw(rule.attempts).v[0] & 1) != 0};
  for (int attempt = 0; attempt < rule.attempts; ++attempt) {
    const std::optional<Region> crop = try_crop(image, rule, draw(attempt));
    if (!crop) continue;
    if (torchvision || crop->h != image.h || crop->w != image.w) view.region = *crop;
    break;
  }
  return view;
}

}  // namespace tunas::data
