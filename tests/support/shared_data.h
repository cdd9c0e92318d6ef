// The shared test data: real images and weights, in the folder TUNAS_SHARED, by default beside the
// sources. Tests that need them are skipped aloud where they are not there (tests/skips.txt).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tunas::test {

/// A folder of the shared data; empty where it is absent.
inline std::string shared_data(const std::string& name) {
  const char* set = std::getenv("TUNAS_SHARED");
  const std::string root = set ? set : std::string(TUNAS_SOURCE_DIR) + "/../shared";
  const std::string path = root + "/data/" + name;
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace tunas::test

#define TUNAS_NEED_SHARED(variable, name)                                          \
  const std::string variable = ::tunas::test::shared_data(name);                   \
  if (variable.empty()) {                                                          \
    GTEST_SKIP() << "needs the shared test data " << name << "; set TUNAS_SHARED"; \
  }                                                                                \
  static_assert(true)
