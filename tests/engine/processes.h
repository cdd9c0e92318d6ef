// Several processes of one test: the same function once per rank, in children that share nothing.
// To be called while the test has no other threads.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {

class Processes {
 public:
  using Body = std::function<void(int rank)>;

  /// Starts `count` children; one ends with 0 when `body` returns, with an Error's code when it
  /// throws one, and says it on its stderr, which goes to a file.
  Processes(int count, const Body& body) {
    folder_ = std::filesystem::temp_directory_path() /
              ("tunas_processes_" + std::to_string(::getpid()) + "_" + std::to_string(made_++));
    std::filesystem::create_directories(folder_);
    for (int rank = 0; rank < count; ++rank) {
      const pid_t child = ::fork();
      if (child == 0) run(rank, body);
      children_.push_back({child});
    }
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;
  ~Processes() {
    for (Child& child : children_) {
      if (child.code != kRunning) continue;
      ::kill(child.id, SIGKILL);
      ::waitpid(child.id, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }

  void signal(int rank, int number) const { ::kill(children_[index(rank)].id, number); }

  /// The exit code of a rank, minus the signal that killed it, or kRunning after `seconds`.
  int code(int rank, double seconds = 60) {
    Child& child = children_[index(rank)];
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (child.code == kRunning) {
      int status = 0;
      if (::waitpid(child.id, &status, WNOHANG) == child.id) {
        child.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      } else if (std::chrono::steady_clock::now() > end) {
        break;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    }
    return child.code;
  }
  std::string said(int rank) const { return read_file(file(rank)); }

  static constexpr int kRunning = -1000;

 private:
  struct Child {
    pid_t id = 0;
    int code = kRunning;
  };

  [[noreturn]] void run(int rank, const Body& body) const {
    int code = 0;
    if (std::freopen(file(rank).c_str(), "w", stderr) == nullptr) std::_Exit(99);
    try {
      body(rank);
    } catch (const Error& error) {
      std::fprintf(stderr, "error: %s\n", error.what());
      code = static_cast<int>(error.code());
    } catch (const std::exception& error) {
      std::fprintf(stderr, "internal: %s\n", error.what());
      code = 98;
    }
    std::fflush(stderr);
    std::_Exit(code);
  }

  std::string file(int rank) const { return (folder_ / std::to_string(rank)).string(); }
  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

  std::filesystem::path folder_;
  std::vector<Child> children_;
  inline static int made_ = 0;
};

}  // namespace tunas::engine
