// tools::load_network and search::Space::parse: arch.json and space files. A space that is accepted
// is written and read back alike; a network is described.
#include "search/space.h"
#include "tests/fuzz/fuzz.h"
#include "tools/selection.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  const std::string text(data, data + size);
  fuzz::accepts([&] {
    const search::Space space = search::Space::parse(text, "fuzz.json");
    const std::string json = space.json();
    fuzz::expect(search::Space::parse(json, "again.json").json() == json, "the same space again");
  });
  const fuzz::File file({data, size});
  fuzz::accepts([&] {
    const tools::Network network = tools::load_network(file.path());
    tools::describe(network, network.alone.resolution);
  });
  return 0;
}
