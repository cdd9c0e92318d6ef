// Philox4x32-10 against the known answers of its authors (Random123, kat_vectors).
#include "kernels/philox.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace tunas {
namespace {

using Answer = std::array<std::uint32_t, 4>;

/// The counter is (index, step, purpose and shard), the key is the seed.
Answer answer(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  const PhiloxKey fields{std::uint64_t{key[1]} << 32 | key[0],
                         static_cast<Purpose>(counter[3] >> 24), counter[2], counter[3] & 0xffffff};
  const Random4 r = philox(fields, std::uint64_t{counter[1]} << 32 | counter[0]);
  return {r.v[0], r.v[1], r.v[2], r.v[3]};
}

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(answer({0, 0, 0, 0}, {0, 0}), (Answer{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(answer({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Answer{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(answer({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Answer{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryFieldOfTheKeyMatters) {
  const PhiloxKey keys[] = {{1, Purpose::test, 0, 0},
                            {2, Purpose::test, 0, 0},
                            {std::uint64_t{1} << 32 | 1, Purpose::test, 0, 0},
                            {1, Purpose::order, 0, 0},
                            {1, Purpose::test, 1, 0},
                            {1, Purpose::test, 0, 1}};
  std::set<std::uint32_t> seen;
  for (const PhiloxKey& key : keys) {
    for (std::uint64_t index : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32}) {
      seen.insert(philox(key, index).v[0]);
    }
  }
  EXPECT_EQ(seen.size(), 18u);
}

TEST(Philox, UniformNumbersStayBelowOne) {
  EXPECT_EQ(uniform_float(0), 0);
  EXPECT_EQ(uniform_float(0xff), 0) << "the lowest 8 bits are dropped";
  EXPECT_EQ(uniform_float(0x80000000), 0.5f);
  EXPECT_LT(uniform_float(0xffffffff), 1.0f);
  EXPECT_EQ(uniform_double(0, 0), 0);
  EXPECT_EQ(uniform_double(0x40000000, 0), 0.25);
  EXPECT_LT(uniform_double(0xffffffff, 0xffffffff), 1.0);
}

}  // namespace
}  // namespace tunas
