// The command line: words that name a verb, then its flags (CLI11, generated from the table).
#pragma once

#include <string>
#include <vector>

#include "tools/config.h"

namespace tunas::tools {

struct Call {
  const Verb* verb = nullptr;  // null: only `answer` is wanted
  Flags flags;
  std::string answer;                     // text of --help or --version
  std::vector<std::string> command = {};  // behind `--`, of a verb that starts another one
};

/// Error(Exit::usage) for an unknown verb or flag, with the nearest valid name.
Call parse_command_line(const std::vector<std::string>& words);

}  // namespace tunas::tools
