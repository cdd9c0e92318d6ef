// Golden vectors from outside the tree: folder $TUNAS_SHARED, by default ../shared beside the
// source. A test that needs them is skipped, with the reason, where they are absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace tunas::test {

inline std::filesystem::path shared_folder() {
  const char* folder = std::getenv("TUNAS_SHARED");
  return folder ? folder : std::filesystem::path(TUNAS_SOURCE_DIR) / ".." / "shared";
}

/// Fixture of tests that read golden files.
class Golden : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(shared_folder() / "reference" / "golden")) {
      GTEST_SKIP() << "no golden vectors under " << shared_folder() << "; set TUNAS_SHARED";
    }
  }

  /// A file under reference/, for instance "golden/unit_values.json".
  static nlohmann::json read(const std::string& file) {
    std::ifstream in(shared_folder() / "reference" / file);
    return nlohmann::json::parse(in);
  }
};

}  // namespace tunas::test
