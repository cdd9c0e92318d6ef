// engine::Safetensors: opened, and every array of what is accepted read.
#include <vector>

#include "engine/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  const fuzz::File file({data, size});
  fuzz::accepts([&] {
    const engine::Safetensors tensors(file.path());
    std::uint64_t bytes = 0;
    for (const auto& entry : tensors.entries()) {
      fuzz::expect(entry.begin <= entry.end && entry.end <= size, "an array inside the file");
      fuzz::expect(tensors.find(entry.name) == &entry, "one array of that name");
      std::vector<std::uint8_t> values(entry.end - entry.begin);
      tensors.read(entry.name, entry.type, entry.shape, values.data());
      bytes += values.size();
    }
    fuzz::expect(bytes <= size, "arrays that do not overlap");
  });
  return 0;
}
