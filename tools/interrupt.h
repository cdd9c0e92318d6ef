// Ctrl-C. The first one asks the run to end after the step it is in, with everything found so far
// written out; the second one kills the process at once.
#pragma once

namespace tunas::tools {

/// From now on SIGINT is counted instead of ending the process.
void catch_interrupt();
bool interrupted();

}  // namespace tunas::tools
