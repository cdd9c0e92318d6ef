// A batch of crops with random bytes, the size of the network's input, for tests and benches.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"
#include "kernels/philox.h"

namespace tunas {

struct SyntheticBatch {
  std::vector<std::uint8_t> pixels;
  Batch batch;

  SyntheticBatch(int images, int resolution, int classes, std::uint64_t seed = 1) {
    const std::size_t side = static_cast<std::size_t>(resolution);
    const std::size_t bytes = side * side * 3;
    pixels.resize(bytes * static_cast<std::size_t>(images));
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      pixels[i] = static_cast<std::uint8_t>(philox({seed, Purpose::test, 0, 0}, i / 4).v[i % 4]);
    }
    batch.pixels = pixels.data();
    for (int i = 0; i < images; ++i) {
      batch.crops.push_back({bytes * static_cast<std::size_t>(i), resolution, resolution,
                             resolution * 3, i % 2 == 1});
      batch.labels.push_back(i * 37 % (classes - 1));
      batch.samples.push_back(i);
    }
  }
};

}  // namespace tunas
