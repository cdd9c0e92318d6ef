#include "tools/terminal.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "kernels/error.h"

namespace tunas::tools {
namespace {

constexpr std::chrono::milliseconds kScreenInterval{100};
constexpr std::chrono::seconds kPlainInterval{5};
constexpr const char* kClearLine = "\r\033[K";

/// Columns of the terminal behind stderr.
std::size_t columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Terminal::Kind Terminal::kind_of_stderr() {
  return ::isatty(STDERR_FILENO) == 1 ? Kind::screen : Kind::plain;
}

bool Terminal::due() const { return std::chrono::steady_clock::now() >= next_; }

void Terminal::status(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  draw(text);
  next_ = std::chrono::steady_clock::now();
  next_ += kind_ == Kind::screen ? std::chrono::steady_clock::duration(kScreenInterval)
                                 : std::chrono::steady_clock::duration(kPlainInterval);
}

void Terminal::finish(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  draw(text);
  if (kind_ == Kind::screen) std::fputc('\n', stderr);
  drawn_.clear();
}

void Terminal::draw(const std::string& text) {
  if (kind_ == Kind::plain) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  drawn_ = text.substr(0, columns() - 1);
  std::fprintf(stderr, "%s%s", kClearLine, drawn_.c_str());
  std::fflush(stderr);
}

void Terminal::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t text;
  formatter_->format(message, text);
  if (!drawn_.empty()) std::fputs(kClearLine, stderr);
  std::fwrite(text.data(), 1, text.size(), stderr);
  if (!drawn_.empty()) std::fputs(drawn_.c_str(), stderr);
}

void Terminal::flush_() { std::fflush(stderr); }

std::shared_ptr<Terminal> open_log(const std::string& file, LogFile how) {
  const auto terminal = std::make_shared<Terminal>(Terminal::kind_of_stderr());
  terminal->set_pattern("%l: %v");
  std::vector<spdlog::sink_ptr> sinks = {terminal};
  if (!file.empty()) {
    try {
      sinks.push_back(
          std::make_shared<spdlog::sinks::basic_file_sink_mt>(file, how == LogFile::create));
    } catch (const spdlog::spdlog_ex& error) {
      fail(Exit::data, file, ": cannot be created (", error.what(), ")");
    }
    sinks.back()->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
  }
  const auto logger = std::make_shared<spdlog::logger>("tunas", sinks.begin(), sinks.end());
  logger->flush_on(spdlog::level::info);
  logger->set_error_handler([file](const std::string& reason) {
    fail(Exit::data, file, ": cannot be written (", reason,
         "); free some space there or choose another place");
  });
  spdlog::set_default_logger(logger);
  return terminal;
}

std::shared_ptr<Terminal> open_quiet_log(int rank) {
  const std::shared_ptr<Terminal> terminal = open_log();
  terminal->set_pattern("rank " + std::to_string(rank) + ": %l: %v");
  spdlog::default_logger()->set_level(spdlog::level::warn);
  return terminal;
}

}  // namespace tunas::tools
