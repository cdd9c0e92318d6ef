// search::Arch::parse: published `indices` in every space; what is accepted is written back alike.
#include <string_view>

#include "search/arch.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunas;
  static const std::vector<search::Space> spaces = [] {
    std::vector<search::Space> all;
    for (const std::string& name : search::Space::names()) {
      all.push_back(search::Space::named(name));
    }
    return all;
  }();
  const std::string text(data, data + size);
  for (const search::Space& space : spaces) {
    fuzz::accepts([&] {
      const search::Arch arch = search::Arch::parse(text, space);
      search::check(space, arch);
      fuzz::expect(search::Arch::parse(arch.indices(), space) == arch, "the same network again");
    });
  }
  return 0;
}
