// Runs of the program on noise: the calls that tests share, and the files a run leaves.
#pragma once

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/program.h"

namespace tunas::tools {

class RunsTest : public ProgramTest {
 protected:
  using Json = nlohmann::json;

  std::string text(const std::string& name) const { return engine::read_file(path(name)); }

  /// The objects of a JSON-lines file; every line must be whole.
  std::vector<Json> lines(const std::string& name) const {
    std::istringstream file(text(name));
    std::vector<Json> objects;
    for (std::string line; std::getline(file, line);) objects.push_back(Json::parse(line));
    return objects;
  }

  /// Returns when the file has so many lines, or after a minute.
  void wait_for_lines(const std::string& name, long count) const {
    for (int ms = 0; ms < 60'000; ms += 5) {
      const std::string there = std::filesystem::exists(path(name)) ? text(name) : "";
      if (std::count(there.begin(), there.end(), '\n') >= count) return;
      pause();
    }
  }

  static std::string space_flag() {
    return std::string("--space ") + TUNAS_SOURCE_DIR + "/tests/search/spaces/tiny.json ";
  }
  static std::string search_call() {
    return "search " + space_flag() + "--data synthetic:24x24x200 --resolution 16 ";
  }
};

}  // namespace tunas::tools
