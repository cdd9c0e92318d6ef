// Rendezvous: how the ranks of a run find each other through files in one folder, which may lie on
// a file system shared between machines. Nothing but rank and size is known beforehand, and files
// of an earlier, killed attempt may lie there.
//
//   hello-R    a random word of rank R's, new in every attempt
//   attempt    of rank 0: a token and the words it saw; written again whenever a word changes
//   ready-R    the token of the attempt that rank R joined, which must hold its own word
//   TOKEN/go   of rank 0, when all are ready for its last token
//   TOKEN/lost why the attempt ended, where it ended badly: what all ranks then say
//
// A word of a dead process is in no new attempt's ready file, so stale files only cost a turn.
#pragma once

#include <optional>
#include <string>

namespace tunas::engine {

struct Meeting {
  std::string folder;  // made where it is not there
  int rank = 0;
  int size = 1;
  double timeout = 120;  // seconds
};

/// Returns TOKEN when all ranks are there; rank 0 removes the folders of earlier tokens.
/// Error(Exit::communication) naming the ranks that did not come in time, on every rank.
std::string meet(const Meeting& meeting);

/// Leaves the sentence in `folder`, a token's, complete or not at all. Never throws.
void write_verdict(const std::string& folder, const std::string& sentence) noexcept;
std::optional<std::string> read_verdict(const std::string& folder);

/// 16 hexadecimal digits, of the system's randomness.
std::string random_word();

}  // namespace tunas::engine
