// JSON lines: order, digits, and numbers JSON does not have.
#include "engine/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() {
    folder_ =
        std::filesystem::temp_directory_path() / ("tunas_metrics_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~MetricsTest() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(MetricsTest, LinesKeepOrderAndDigits) {
  JsonLines lines(path("m.jsonl"));
  lines.write({{"step", 0}, {"loss", 0.1}, {"a", {1.0, 2.5}}});
  lines.write({{"step", 1}, {"loss", 1.0 / 3.0}});
  lines.sync();
  EXPECT_EQ(read_file(path("m.jsonl")),
            "{\"step\":0,\"loss\":0.1,\"a\":[1.0,2.5]}\n"
            "{\"step\":1,\"loss\":0.3333333333333333}\n");
}

TEST_F(MetricsTest, LinesGoOnWhereTheyWereCut) {
  std::int64_t first = 0;
  {
    JsonLines lines(path("m.jsonl"));
    lines.write({{"step", 0}});
    first = lines.bytes();
    lines.write({{"step", 1}});
  }
  JsonLines(path("m.jsonl"), first).write({{"step", 7}});
  EXPECT_EQ(read_file(path("m.jsonl")), "{\"step\":0}\n{\"step\":7}\n");
}

TEST_F(MetricsTest, RefusesWhatJsonCannotHold) {
  JsonLines lines(path("m.jsonl"));
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL}) {
    try {
      lines.write({{"step", 3}, {"list", {1.0, value}}});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::numeric);
      EXPECT_NE(std::string(error.what()).find("'list'"), std::string::npos);
    }
  }
  EXPECT_EQ(read_file(path("m.jsonl")), "");
}

}  // namespace
}  // namespace tunas::engine
