// The program: finds the verb, runs it, turns an Error into one sentence and its exit code.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "tools/command_line.h"

namespace {

tunas::Exit run(const std::vector<std::string>& words) {
  const tunas::tools::Call call = tunas::tools::parse_command_line(words);
  std::fputs(call.answer.c_str(), stdout);
  if (call.verb == nullptr) return tunas::Exit::ok;
  const tunas::tools::Config config(*call.verb, call.flags, tunas::tools::current_environment());
  return call.verb->start != nullptr ? call.verb->start(config, call.command)
                                     : call.verb->run(config);
}

}  // namespace

int main(int argc, char** argv) {
  // A file beyond the user's limit is then an error of write(), reported like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  tunas::Exit code = tunas::Exit::ok;
  try {
    code = run({argv + 1, argv + argc});
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      tunas::fail(tunas::Exit::data, "standard output: cannot be written; is its disk full?");
    }
  } catch (const tunas::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    code = error.code();
  } catch (const std::bad_alloc&) {
    std::fputs("error: out of memory; use a smaller --batch-size\n", stderr);
    code = tunas::Exit::memory;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: internal, please report it: %s\n", error.what());
    return EXIT_FAILURE;
  }
  return static_cast<int>(code);
}
