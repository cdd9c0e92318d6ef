// What a person sees while a run goes on: log messages and, below them, one status line, both on
// stderr. On a terminal the status line is redrawn in place at most ten times a second; elsewhere
// it is an ordinary line every few seconds. The first and the last status are always shown.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

namespace tunas::tools {

class Terminal final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  enum class Kind : unsigned char { screen, plain };
  explicit Terminal(Kind kind) : kind_(kind) {}
  /// screen where stderr is a terminal.
  static Kind kind_of_stderr();

  /// Whether a status given now would be shown: lets the caller skip composing it.
  bool due() const;
  void status(const std::string& text);
  /// The last status of a run: shown in any case, and left standing.
  void finish(const std::string& text);

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override;
  void draw(const std::string& text);

  Kind kind_;
  std::string drawn_;  // the status line on the screen now
  std::chrono::steady_clock::time_point next_{};
};

enum class LogFile : unsigned char { create, append };

/// Sends spdlog's messages to a new Terminal on stderr and, where `file` is not empty, to that file
/// as well. A file that cannot be written ends the run with Error(Exit::data).
std::shared_ptr<Terminal> open_log(const std::string& file = "", LogFile how = LogFile::create);
/// The same for a rank that leaves speaking to rank 0: warnings and errors alone.
std::shared_ptr<Terminal> open_quiet_log(int rank);

}  // namespace tunas::tools
