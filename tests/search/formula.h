// Weights and images by formula, the same as in tests/golden/make_foreign_golden.py, and what a
// network trained alone makes of them on the CPU with its running averages.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "search/network.h"

namespace tunas::search {

/// Element i of splitmix64 from `seed`: 24 bits in [-1, 1).
inline float noise(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t x = seed + 0x9E3779B97F4A7C15u * (i + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  x = x ^ (x >> 31);
  return static_cast<float>(x >> 40) / (1 << 23) - 1;
}

inline std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t h = 0xCBF29CE484222325u;
  for (const unsigned char byte : text) h = (h ^ byte) * 0x100000001B3u;
  return h;
}

inline std::size_t elements(const engine::Shape& shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

/// Kernels keep the size of what they are given (fan-in: all extents but the first, unless said);
/// statistics and scales are near theirs.
inline std::vector<float> weight_values(const std::string& name, const engine::Shape& shape,
                                        std::size_t fan_in = 0) {
  const auto ends = [&](const char* with) { return name.ends_with(with); };
  std::vector<float> values(elements(shape));
  if (fan_in == 0 && !shape.empty()) fan_in = values.size() / static_cast<std::size_t>(shape[0]);
  float scale = static_cast<float>(2.4 / std::sqrt(static_cast<double>(fan_in))), shift = 0;
  if (ends("running_var") || ends("variance")) {
    shift = 1;
    scale = 0.5f;
  } else if (shape.size() == 1) {
    shift = ends("weight") || ends("gamma") ? 1.0f : 0.0f;
    scale = 0.25f;
  }
  const std::uint64_t seed = fnv1a(name);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = shift + scale * noise(seed, i);
  return values;
}

/// Random bytes, normalised with mean and deviation 127.5.
struct FormulaImages {
  std::vector<std::uint8_t> pixels;
  Batch batch;
  Preprocess preprocess;

  FormulaImages(int resolution, const std::vector<std::uint64_t>& seeds) {
    const auto bytes = static_cast<std::size_t>(resolution) * resolution * 3;
    for (const std::uint64_t seed : seeds) {
      batch.crops.push_back({pixels.size(), resolution, resolution, resolution * 3, false});
      for (std::size_t i = 0; i < bytes; ++i) {
        pixels.push_back(static_cast<std::uint8_t>(128 * (1 + noise(seed, i))));
      }
      batch.labels.push_back(0);
      batch.samples.push_back(static_cast<std::int64_t>(batch.samples.size()));
    }
    batch.pixels = pixels.data();
    preprocess.resample = Resample::bilinear;  // of as many pixels: the identity
    for (int c = 0; c < 3; ++c) {
      preprocess.normalization.mean[c] = preprocess.normalization.std[c] = 127.5f;
    }
  }

  /// [n][3][R][R], as PyTorch and ONNX have it.
  std::vector<float> planes() const {
    const std::size_t images = batch.crops.size(), area = pixels.size() / images / 3;
    std::vector<float> values(pixels.size());
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      const std::size_t image = i / (3 * area), pixel = i / 3 % area;
      values[(image * 3 + i % 3) * area + pixel] =
          (static_cast<float>(pixels[i]) - 127.5f) / 127.5f;
    }
    return values;
  }
};

/// A network for evaluation of up to `images` images. Its weights are random until they are read.
inline std::unique_ptr<Network> evaluation_network(engine::Device& device, const Space& space,
                                                   const FormulaImages& images) {
  NetworkConfig config;
  config.supernet.resolution = space.resolution;
  config.supernet.running_averages = true;
  config.supernet.preprocess = images.preprocess;
  config.train_batch = 1;
  config.validation_batch = images.batch.size();
  config.logits = NetworkConfig::Logits::keep;
  return std::make_unique<Network>(device, space, config);
}

/// [images][classes].
inline std::vector<float> logits(Network& network, const FormulaImages& images) {
  const Space& space = network.supernet().space();
  network.score(images.batch, network.supernet().plan(Arch::largest(space)),
                engine::Pass::evaluate);
  const Outcome outcome = network.wait().back();
  std::vector<float> all;
  for (int i = 0; i < images.batch.size(); ++i) {
    const float* row = outcome.logits.data() + static_cast<std::ptrdiff_t>(i) * network.logit_row();
    all.insert(all.end(), row, row + space.classes);
  }
  return all;
}

/// |a - b| / |b|; NaN where a value is.
inline double difference(const std::vector<float>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return NAN;
  double off = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    off += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(off / size);
}

/// A folder of a test's own, gone with it.
class TestFolder {
 public:
  explicit TestFolder(const std::string& name)
      : folder_(std::filesystem::temp_directory_path() /
                (name + "_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~TestFolder() { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& file) const { return (folder_ / file).string(); }

 private:
  std::filesystem::path folder_;
};

}  // namespace tunas::search
