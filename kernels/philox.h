// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number is a function of (seed, purpose, step, shard, index) and nothing
// else, so it is the same for any number of threads, workers and ranks, on host and device.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace tunas {

enum class Purpose : std::uint32_t {
  init = 1,
  policy = 2,
  warmup = 3,
  order = 4,
  holdout = 5,
  augment = 6,
  dropout = 7,
  sample_space = 8,
  test = 9
};

struct PhiloxKey {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::test;
  std::uint32_t step = 0;
  std::uint32_t shard = 0;  // < 2^24
};

struct Random4 {
  std::uint32_t v[4];
};

TUNAS_HD inline Random4 philox(const PhiloxKey& key, std::uint64_t index) {
  std::uint32_t c0 = static_cast<std::uint32_t>(index);
  std::uint32_t c1 = static_cast<std::uint32_t>(index >> 32);
  std::uint32_t c2 = key.step;
  std::uint32_t c3 = static_cast<std::uint32_t>(key.purpose) << 24 | key.shard;
  std::uint32_t k0 = static_cast<std::uint32_t>(key.seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1) with 24 bits, exact in float.
TUNAS_HD inline float uniform_float(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

/// Uniform in [0, 1) with 53 bits.
TUNAS_HD inline double uniform_double(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits) * (1.0 / 9007199254740992.0);
}

}  // namespace tunas
