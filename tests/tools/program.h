// Runs the program as a user would and looks at what it leaves: exit code, stdout, stderr, files.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
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

  /// Starts `tunas ARGUMENTS` and returns; what it says goes to the files `out` and `err`.
  pid_t start(const std::string& arguments) const {
    const std::string command = std::string("exec ") + TUNAS_PROGRAM + " " + arguments + " >" +
                                path("out") + " 2>" + path("err");
    const pid_t child = ::fork();
    if (child == 0) {
      std::signal(SIGINT, SIG_DFL);  // a shell's background jobs are started with it ignored
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      std::_Exit(127);
    }
    return child;
  }
  /// How it ended: its exit code, 1000 + signal, or kRunning where it has not after a minute.
  static int wait(pid_t child) {
    int status = 0;
    for (int ms = 0; ms < 60'000; ms += 5) {
      if (::waitpid(child, &status, WNOHANG) == child) {
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
      }
      pause();
    }
    return kRunning;
  }
  static constexpr int kRunning = -1;
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

  /// Processes whose parent is `parent`.
  static std::vector<pid_t> children(pid_t parent) {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream stat(entry.path() / "stat");
      std::string text;
      std::getline(stat, text);
      const std::size_t behind_name = text.rfind(") ");
      if (behind_name == std::string::npos) continue;
      if (std::atoi(text.c_str() + behind_name + 4) == parent) found.push_back(std::stoi(name));
    }
    return found;
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
