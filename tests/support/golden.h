// The reference vectors of the algorithm's specification, tests/golden/reference/ (its README says
// where they come from).
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace tunas::test {

/// One file of the folder, for instance "unit_values.json". Throws nlohmann's exception if absent.
inline nlohmann::json read_golden(const std::string& file) {
  std::ifstream in(TUNAS_SOURCE_DIR "/tests/golden/reference/" + file);
  return nlohmann::json::parse(in);
}

}  // namespace tunas::test
