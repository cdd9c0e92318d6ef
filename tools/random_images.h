// A batch of random images, for what is timed and not learned from.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"
#include "kernels/philox.h"

namespace tunas::tools {

/// Images of random bytes, as large as the network's input.
struct RandomImages {
  std::vector<std::uint8_t> pixels;
  Batch batch;

  RandomImages(int images, int resolution, int classes) {
    const auto side = static_cast<std::size_t>(resolution);
    const std::size_t bytes = 3 * side * side;
    for (std::size_t i = 0; i < static_cast<std::size_t>(images) * bytes; i += 4) {
      for (const std::uint32_t word : philox({0, Purpose::test, 0, 0}, i).v) {
        pixels.push_back(static_cast<std::uint8_t>(word));
      }
    }
    batch.pixels = pixels.data();
    for (int i = 0; i < images; ++i) {
      batch.crops.push_back({static_cast<std::size_t>(i) * bytes, resolution, resolution,
                             3 * resolution, i % 2 == 1});
      batch.labels.push_back(i % classes);
      batch.samples.push_back(i);
    }
  }
};

}  // namespace tunas::tools
