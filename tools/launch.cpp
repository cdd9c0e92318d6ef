// tunas launch -n N -- VERB ...: runs a verb as N ranks on this machine.
//
// Each rank is this program with torchrun's variables in its environment (tools/ranks.h). Rank 0
// has the launcher's stdout, all have its stderr. SIGINT, SIGTERM and SIGUSR1 are handed to every
// rank. When a rank fails, the others get time to say why they end, too, then SIGTERM, then
// SIGKILL; none outlives the launcher. The exit code is that of the first rank to fail, 128 +
// signal where it was killed. A run that lost a rank so (code 5, or a signal) is started again with
// --resume auto, as often as --max-restarts allows.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "tools/command_line.h"

namespace tunas::tools {
namespace {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

/// For a rank to hear of another's end and say so, and then to end on SIGTERM.
constexpr std::chrono::seconds kGrace(5), kLastGrace(3);
constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGUSR1};

/// Signals arrive where the launcher waits for them, from its first rank to its last.
class HeldSignals {
 public:
  HeldSignals() {
    ::sigemptyset(&set_);
    for (const int signal : kForwarded) ::sigaddset(&set_, signal);
    ::sigaddset(&set_, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  ~HeldSignals() { give_back(); }

  void give_back() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  /// The next one; 0 where none comes for a while.
  int next() const {
    const timespec patience = {0, 100'000'000};
    return std::max(0, ::sigtimedwait(&set_, nullptr, &patience));
  }

 private:
  sigset_t set_, before_;
};

struct Failure {
  int rank, code;
  bool lost;  // killed, or ended because a peer was lost: worth another try
};

class Attempt {
 public:
  Attempt(const Words& command, int ranks, const HeldSignals& signals) : signals_(signals) {
    const pid_t launcher = ::getpid();
    for (int r = 0; r < ranks; ++r) {
      const pid_t child = ::fork();
      if (child == 0) become(command, r, ranks, launcher);
      if (child < 0) {
        kill_all(SIGKILL);
        fail(Exit::memory, "rank ", r, " cannot be started (", std::strerror(errno),
             "); use fewer with -n");
      }
      processes_.push_back(child);
    }
  }

  /// Returns when all ranks have ended; `told`: the last signal the launcher was sent.
  std::optional<Failure> wait(int& told) {
    std::optional<Clock::time_point> failed;
    bool asked = false;
    while (reap()) {
      if (failure_ && !failed) failed = Clock::now();
      if (failed && Clock::now() - *failed > kGrace + kLastGrace) {
        kill_all(SIGKILL);
      } else if (failed && Clock::now() - *failed > kGrace && !std::exchange(asked, true)) {
        kill_all(SIGTERM);
      }
      const int signal = signals_.next();
      if (signal == 0 || signal == SIGCHLD) continue;
      told = signal;
      kill_all(signal);
    }
    return failure_;
  }

 private:
  [[noreturn]] void become(const Words& command, int rank, int ranks, pid_t launcher) const {
    // The kernel ends a rank whose launcher was killed, and the terminal's Ctrl-C reaches the
    // launcher alone, so that each rank hears it once.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != launcher) std::_Exit(EXIT_FAILURE);
    ::setpgid(0, 0);
    ::setenv("RANK", std::to_string(rank).c_str(), 1);
    ::setenv("WORLD_SIZE", std::to_string(ranks).c_str(), 1);
    ::setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
    ::setenv("LOCAL_WORLD_SIZE", std::to_string(ranks).c_str(), 1);
    if (rank > 0) ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
    signals_.give_back();
    std::vector<char*> words = {const_cast<char*>("tunas")};
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execv("/proc/self/exe", words.data());
    std::_Exit(127);
  }

  /// Notes who has ended; false when all have.
  bool reap() {
    int status = 0;
    for (pid_t ended; (ended = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      for (std::size_t r = 0; r < processes_.size(); ++r) {
        if (processes_[r] == ended) note(static_cast<int>(r), status);
      }
    }
    return std::any_of(processes_.begin(), processes_.end(), [](pid_t p) { return p != kEnded; });
  }

  void note(int rank, int status) {
    processes_[static_cast<std::size_t>(rank)] = kEnded;
    const bool killed = WIFSIGNALED(status);
    const int code = killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (code == 0 || failure_) return;
    failure_ = {rank, code, killed || code == static_cast<int>(Exit::communication)};
  }

  void kill_all(int signal) const {
    for (const pid_t process : processes_) {
      if (process != kEnded) ::kill(process, signal);
    }
  }

  static constexpr pid_t kEnded = 0;

  const HeldSignals& signals_;
  std::vector<pid_t> processes_;  // of the ranks
  std::optional<Failure> failure_;
};

/// `command` again, to go on from where its run was lost.
Words resumed(const Words& command, const Call& call) {
  Words words = command;
  std::erase(words, "--overwrite");
  ::unsetenv("TUNAS_OVERWRITE");
  if (!call.flags.contains("resume")) words.insert(words.end(), {"--resume", "auto"});
  return words;
}

/// A restart goes on from the newest checkpoint, so that a run cannot begin at a certain one, too.
void check_restarts(const Call& call, long restarts) {
  const auto resume = call.flags.find("resume");
  require(restarts == 0 || resume == call.flags.end() || resume->second == "auto",
          "--max-restarts goes on from the newest checkpoint of --out, not from ",
          resume == call.flags.end() ? "" : resume->second,
          "; start without --max-restarts, or with --resume auto");
}

Exit start(const Config& config, const Words& command) {
  require(!command.empty(),
          "tunas launch needs a verb behind --, as in tunas launch -n 2 -- search --out DIR");
  // Refused once, not by every rank.
  const Call call = parse_command_line(command);
  std::fputs(call.answer.c_str(), stdout);
  if (call.verb == nullptr) return Exit::ok;
  require(call.verb->start == nullptr, "tunas launch starts no other tunas launch");
  std::fflush(stdout);

  const HeldSignals signals;
  const int ranks = static_cast<int>(config.integer("ranks"));
  const long restarts = config.integer("max-restarts");
  check_restarts(call, restarts);
  int told = 0;
  for (long attempt = 0;; ++attempt) {
    Attempt running(attempt == 0 ? command : resumed(command, call), ranks, signals);
    const std::optional<Failure> failure = running.wait(told);
    if (!failure) return Exit::ok;
    const bool again = failure->lost && told == 0 && attempt < restarts;
    std::fprintf(stderr, "launch: rank %d of %d ended with code %d%s\n", failure->rank, ranks,
                 failure->code, again ? "; all are started again" : "");
    if (!again) return static_cast<Exit>(failure->code);
  }
}

}  // namespace

Verb launch_verb() {
  return {"launch",
          "run a verb as several ranks on this machine",
          {{.name = "ranks",
            .type = Type::integer,
            .help = "how many processes, on GPUs one for each",
            .least = 1,
            .most = 4096,
            .role = Role::call,
            .letter = 'n'},
           {.name = "max-restarts",
            .type = Type::integer,
            .fallback = "0",
            .help = "how often a run that lost a rank is started again, with --resume auto",
            .least = 0,
            .role = Role::call}},
          nullptr,
          start};
}

}  // namespace tunas::tools
