// Damaged copies of real photos: each decodes or fails with a reason, without a crash, and what it
// gives depends on its own bytes alone, whichever decoder saw what before.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "data/decode.h"
#include "kernels/philox.h"
#include "tests/data/samples.h"

namespace tunas::data {
namespace {

using testing::Bytes;

constexpr std::int64_t kMutants = 1200;
constexpr int kKinds = 6;

PhiloxKey key(std::uint32_t part) { return {31, Purpose::test, part, 0}; }

/// Changes a photo in one of six ways; `other` is spliced in.
Bytes mutate(std::span<const std::uint8_t> photo, std::span<const std::uint8_t> other,
             std::int64_t index) {
  Bytes bytes(photo.begin(), photo.end());
  const auto draw = [&](std::uint32_t i, std::size_t below) {
    return philox(key(i), static_cast<std::uint64_t>(index)).v[0] % below;
  };
  const auto flip = [&](std::uint32_t i, std::size_t below) {
    bytes[draw(2 * i, below)] ^= static_cast<std::uint8_t>(1u << draw(2 * i + 1, 8));
  };
  switch (index % kKinds) {
    case 0:  // bits anywhere
      for (std::uint32_t i = 0; i <= draw(90, 20); ++i) flip(i, bytes.size());
      break;
    case 1:  // the end is missing
      bytes.resize(draw(0, bytes.size()));
      break;
    case 2: {  // the beginning of one photo, the end of another
      bytes.resize(draw(0, bytes.size()));
      const auto from = static_cast<long>(draw(1, other.size()));
      bytes.insert(bytes.end(), other.begin() + from, other.end());
      break;
    }
    case 3: {  // a marker where there was none
      const std::size_t at = draw(0, bytes.size() - 1);
      bytes[at] = 0xFF;
      bytes[at + 1] = static_cast<std::uint8_t>(0xC0 + draw(1, 0x40));
      break;
    }
    case 4:  // the header: tables, sizes, sampling
      for (std::uint32_t i = 0; i <= draw(90, 4); ++i) {
        flip(i, std::min<std::size_t>(700, bytes.size()));
      }
      break;
    default: {  // a piece is gone
      const std::size_t at = draw(0, bytes.size()), count = draw(1, bytes.size() - at);
      bytes.erase(bytes.begin() + static_cast<long>(at),
                  bytes.begin() + static_cast<long>(at + count));
    }
  }
  return bytes;
}

/// What became of a mutant: a digest of its pixels, or the reason of its failure.
struct Outcome {
  std::uint64_t digest = 0;
  std::string reason;
  std::int64_t stopped_at = 0;
  bool operator==(const Outcome&) const = default;
};

/// Decodes the middle of an image, or all of it, into memory full of `poison`.
Outcome decode(Decoder& decoder, const Bytes& bytes, std::int64_t index, std::uint8_t poison) {
  Outcome outcome;
  try {
    const Size size = decoder.open({bytes});
    const bool whole = index % 3 == 0;
    const Region region = whole ? Region{0, 0, size.h, size.w}
                                : Region{size.h / 4, size.w / 4, size.h / 2 + 1, size.w / 2 + 1};
    if (static_cast<long>(region.h) * region.w > 4'000'000)
      return outcome;  // for the time it takes
    Bytes rgb(3UL * static_cast<std::size_t>(region.h) * static_cast<std::size_t>(region.w),
              poison);
    decoder.read(region, rgb.data());
    outcome.digest = 14695981039346656037u;
    for (const std::uint8_t byte : rgb) outcome.digest = (outcome.digest ^ byte) * 1099511628211u;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::data) << error.what();
    EXPECT_STRNE(error.what(), "") << index;
    EXPECT_LE(decoder.stopped_at(), std::ssize(bytes));
    outcome.reason = error.what();
    outcome.stopped_at = decoder.stopped_at();
  }
  return outcome;
}

TEST(Mutation, DamagedPhotosFailWithAReasonAndLeaveNothingBehind) {
  TUNAS_NEED_SHARED(imagenet, "imagenet_sample");
  const Records records = open_records("tar:" + imagenet + "/*.tar", Split::train);
  Records::Scratch scratch;
  const auto mutant = [&](std::int64_t i, Records::Scratch& a, Records::Scratch& b) {
    return mutate(records.read(i % records.size(), a).bytes,
                  records.read((i * 7 + 1) % records.size(), b).bytes, i);
  };
  std::vector<Outcome> outcomes(kMutants);
  std::atomic<std::int64_t> next = 0;
  const auto work = [&](std::uint8_t poison) {
    Decoder decoder;  // for all of this thread's mutants
    Records::Scratch a, b;
    for (std::int64_t i = next++; i < kMutants; i = next++) {
      outcomes[static_cast<std::size_t>(i)] = decode(decoder, mutant(i, a, b), i, poison);
    }
  };
  {
    std::vector<std::thread> pool;
    for (const std::uint8_t poison : {0x5A, 0xC3, 0x11}) pool.emplace_back(work, poison);
    for (std::thread& thread : pool) thread.join();
  }
  // A quarter of them again, each by a decoder that never saw another image.
  Records::Scratch other;
  for (std::int64_t i = 0; i < kMutants; i += 4) {
    Decoder fresh;
    EXPECT_EQ(decode(fresh, mutant(i, scratch, other), i, 0xEE),
              outcomes[static_cast<std::size_t>(i)])
        << records.name(i % records.size()) << ", mutant " << i;
  }
  const auto failed = std::count_if(outcomes.begin(), outcomes.end(),
                                    [](const Outcome& o) { return !o.reason.empty(); });
  EXPECT_GT(failed, kMutants / 4);
  EXPECT_LT(failed, kMutants);
}

}  // namespace
}  // namespace tunas::data
