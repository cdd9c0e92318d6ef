// Runs the program as a user would and looks at what it leaves: exit code, stdout, stderr, files.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/file.h"

namespace tunas::tools {

class ProgramTest : public testing::Test {
 protected:
  struct Result {
    int code = -1;
    std::string out, err;
    double seconds = 0;  // of processor time, which other work on the machine does not stretch
  };

  ProgramTest() {
    folder_ =
        std::filesystem::temp_directory_path() / ("tunas_program_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~ProgramTest() override { std::filesystem::remove_all(folder_); }

  /// Of a file in a folder of this test's own.
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// Runs `tunas ARGUMENTS` in a shell, where `before` may set the environment or limits.
  Result run(const std::string& arguments, const std::string& before = "") const {
    const std::string command =
        before + " " + TUNAS_PROGRAM + " " + arguments + " >" + path("out") + " 2>" + path("err");
    const double before_seconds = child_seconds();
    const int status = std::system(command.c_str());
    const double seconds = child_seconds() - before_seconds;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, engine::read_file(path("out")),
            engine::read_file(path("err")), seconds};
  }

  /// The call ends with `code` and one sentence that holds all of `parts`, at once.
  void expect_refusal(const std::string& arguments, int code, const std::vector<std::string>& parts,
                      const std::string& before = "") const {
    const Result result = run(arguments, before);
    EXPECT_EQ(result.code, code) << arguments << "\n" << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "") << arguments;
    EXPECT_LT(result.seconds, 1.0) << arguments;
    for (const std::string& part : parts) {
      EXPECT_NE(result.err.find(part), std::string::npos) << part << "\nin " << result.err;
    }
  }

 private:
  static double child_seconds() {
    rusage used{};
    ::getrusage(RUSAGE_CHILDREN, &used);
    const auto seconds = [](const timeval& t) { return t.tv_sec + 1e-6 * t.tv_usec; };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
  }

  std::filesystem::path folder_;
};

}  // namespace tunas::tools
