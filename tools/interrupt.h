// Requests to stop: Ctrl-C (SIGINT), and a scheduler's SIGTERM or SIGUSR1 to what can be resumed.
// The first one asks the run to end after the step it is in, with everything found so far written
// out; a second one of its kind kills the process at once.
#pragma once

namespace tunas::tools {

enum class Stop : unsigned char { none, preempted, interrupted };

/// From now on SIGINT is counted instead of ending the process.
void catch_interrupt();
/// SIGTERM and SIGUSR1, too.
void catch_stop();
Stop stop_asked();
inline bool interrupted() { return stop_asked() != Stop::none; }

}  // namespace tunas::tools
