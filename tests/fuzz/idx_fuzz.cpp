// data::parse_idx: the arrays of MNIST and Fashion-MNIST, of one to four dimensions.
#include <vector>

#include "data/idx.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  const std::vector<std::uint8_t> bytes(data, data + size);
  for (int dimensions = 1; dimensions <= 4; ++dimensions) {
    fuzz::accepts([&] {
      const data::Idx idx = data::parse_idx(bytes, dimensions, "fuzz.idx");
      std::size_t count = 1;
      for (const int extent : idx.shape) count *= static_cast<std::size_t>(extent);
      fuzz::expect(std::ssize(idx.shape) == dimensions && count == idx.values.size(),
                   "as many values as the shape says");
      fuzz::expect(idx.values.data() + count == bytes.data() + size, "values inside the file");
    });
  }
  return 0;
}
