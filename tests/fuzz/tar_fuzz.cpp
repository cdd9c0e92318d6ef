// data::tar_samples: WebDataset tars. What is accepted lies inside the archive.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

#include "data/records.h"
#include "data/tar.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr std::size_t kBlock = 512, kSum = 148, kSumDigits = 8;

/// Makes the checksum of every block that is not empty right.
void mend_sums(std::uint8_t* tar, std::size_t size) {
  for (; size >= kBlock; tar += kBlock, size -= kBlock) {
    if (std::all_of(tar, tar + kBlock, [](std::uint8_t byte) { return byte == 0; })) continue;
    if (std::equal(tar + 257, tar + 262, "ustar")) {
      std::fill_n(tar + kSum, kSumDigits, ' ');
      const unsigned sum = std::accumulate(tar, tar + kBlock, 0u);
      char digits[kSumDigits + 1];
      std::snprintf(digits, sizeof digits, "%06o", sum);
      std::copy_n(digits, 7, tar + kSum);
    }
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 != 0) mend_sums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  const std::vector<std::uint8_t> bytes(data, data + size);
  fuzz::accepts([&] {
    for (const data::TarSample& sample : data::tar_samples(bytes, "fuzz.tar")) {
      fuzz::expect(sample.offset <= size && sample.size <= size - sample.offset,
                   "a sample inside the archive");
      fuzz::expect(sample.label >= 0 && sample.label < data::kMaxClasses, "a label");
    }
  });
  return 0;
}
