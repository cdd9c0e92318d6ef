#include "tools/interrupt.h"

#include <csignal>
#include <initializer_list>

namespace tunas::tools {
namespace {

volatile std::sig_atomic_t g_interrupted = 0, g_preempted = 0;

void on_signal(int signal) { (signal == SIGINT ? g_interrupted : g_preempted) = 1; }

void catch_signal(int signal) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);  // the second one kills
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void catch_interrupt() { catch_signal(SIGINT); }

void catch_stop() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) catch_signal(signal);
}

Stop stop_asked() {
  if (g_interrupted != 0) return Stop::interrupted;
  return g_preempted != 0 ? Stop::preempted : Stop::none;
}

}  // namespace tunas::tools
