// The spaces and networks that come with the program.
#include <algorithm>
#include <array>

#include "kernels/error.h"
#include "search/embedded.h"
#include "search/nearest_name.h"
#include "search/space.h"

namespace tunas::search {
namespace {

constexpr std::array<std::string_view, 3> kSearchSpaces = {
    "proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"};
constexpr std::string_view kFolder = "spaces/";
constexpr std::string_view kSuffix = ".json";

}  // namespace

bool Space::is_search_space(std::string_view name) {
  return std::find(kSearchSpaces.begin(), kSearchSpaces.end(), name) != kSearchSpaces.end();
}

std::vector<std::string> Space::names() {
  std::vector<std::string> all(kSearchSpaces.begin(), kSearchSpaces.end());
  for (const EmbeddedFile& file : embedded_files()) {
    std::string_view path = file.path;
    if (!path.starts_with(kFolder)) continue;
    path = path.substr(kFolder.size(), path.size() - kFolder.size() - kSuffix.size());
    if (!is_search_space(path)) all.emplace_back(path);
  }
  return all;
}

Space Space::named(std::string_view name) {
  const std::string path = std::string(kFolder) + std::string(name) + std::string(kSuffix);
  for (const EmbeddedFile& file : embedded_files()) {
    if (file.path == path) return parse(std::string(file.text), path);
  }
  fail(Exit::usage, "no space or network is called '", name, "'; did you mean ",
       nearest_name(name, names()), "? (tunas space list names them all)");
}

}  // namespace tunas::search
