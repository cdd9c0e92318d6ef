// One exception, one sentence: what is wrong (file, value) and how to mend it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace tunas {

/// Exit codes of the program; an Error carries the one it ends with.
enum class Exit {
  ok = 0,
  usage = 2,
  data = 3,
  memory = 4,
  communication = 5,
  numeric = 6,
  preempted = 75,
  interrupted = 130
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

/// Joins the parts into the sentence and throws. `fail(Exit::data, path, ": not a tar file")`.
template <class... Parts>
[[noreturn]] void fail(Exit code, const Parts&... parts) {
  std::ostringstream sentence;
  (sentence << ... << parts);
  throw Error(code, sentence.str());
}

/// Throws Error(Exit::usage) made of `parts` unless `condition` holds.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail(Exit::usage, parts...);
}

}  // namespace tunas
