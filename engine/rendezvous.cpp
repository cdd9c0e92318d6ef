#include "engine/rendezvous.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/comm.h"
#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

/// Rank 0 gives up first, so that it can say who is missing.
constexpr double kOthersWaitLonger = 1.25;

std::string read_or_empty(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return "";
  try {
    return read_file(path, 1 << 20);
  } catch (const Error&) {
    return "";  // replaced at this moment: the next look finds it
  }
}

class Place {
 public:
  explicit Place(const Meeting& meeting)
      : meeting_(meeting),
        end_(Clock::now() +
             std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                 meeting.timeout * (meeting.rank == 0 ? 1 : kOthersWaitLonger)))) {
    std::error_code error;
    std::filesystem::create_directories(meeting.folder, error);
    if (error) fail(Exit::data, meeting.folder, ": cannot be created (", error.message(), ")");
  }

  std::string file(const std::string& name) const { return meeting_.folder + "/" + name; }
  std::string file(const char* kind, int rank) const {
    return file(std::string(kind) + "-" + std::to_string(rank));
  }
  /// What each rank has left under this name; empty: nothing yet.
  Words words(const char* kind) const {
    Words all;
    for (int r = 0; r < meeting_.size; ++r) all.push_back(read_or_empty(file(kind, r)));
    return all;
  }
  bool time_left() const { return Clock::now() < end_; }
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

 private:
  const Meeting& meeting_;
  Clock::time_point end_;
};

/// Makes TOKEN/ and takes those of earlier attempts away, whose ranks are gone.
std::string new_token(const Place& place, const std::string& folder) {
  const std::string token = random_word();
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::error_code gone;
    if (entry.is_directory(gone)) std::filesystem::remove_all(entry.path(), gone);
  }
  std::filesystem::create_directories(place.file(token), error);
  if (error) fail(Exit::data, place.file(token), ": cannot be created (", error.message(), ")");
  return token;
}

[[noreturn]] void give_up(const Meeting& meeting, const Place& place, const std::string& token,
                          const Words& ready) {
  std::vector<int> missing;
  for (int r = 1; r < meeting.size; ++r) {
    if (token.empty() || ready[static_cast<std::size_t>(r)] != token) missing.push_back(r);
  }
  std::ostringstream sentence;
  sentence << name_ranks(missing) << " of " << meeting.size << " did not come to " << meeting.folder
           << " within " << meeting.timeout
           << " s; start all ranks on a file system they share, or wait longer with --peer-timeout";
  if (!token.empty()) write_verdict(place.file(token), sentence.str());
  fail(Exit::communication, sentence.str());
}

std::string lead(const Meeting& meeting, const Place& place) {
  Words seen;
  std::string token;
  while (true) {
    const Words hello = place.words("hello");
    const bool all = std::find(hello.begin(), hello.end(), "") == hello.end();
    if (hello != seen) {  // also before all are there: who waits then knows that rank 0 lives
      seen = hello;
      token = new_token(place, meeting.folder);
      std::string text = token + "\n";
      for (const std::string& word : seen) text += word + "\n";
      write_file(place.file("attempt"), text);
    }
    const Words ready = place.words("ready");
    bool same = all;
    for (std::size_t r = 1; r < ready.size(); ++r) same = same && ready[r] == token;
    if (same) {
      write_file(place.file(token + "/go"), "");
      return token;
    }
    if (!place.time_left()) give_up(meeting, place, token, ready);
    Place::pause();
  }
}

/// The token of an attempt that holds `word` as that of `rank`; empty: of none.
std::string invited(const Place& place, int rank, const std::string& word) {
  std::istringstream attempt(read_or_empty(place.file("attempt")));
  std::string token, line;
  if (!std::getline(attempt, token)) return "";
  for (int r = 0; r <= rank; ++r) std::getline(attempt, line);
  return attempt && line == word ? token : "";
}

std::string follow(const Meeting& meeting, const Place& place, const std::string& word) {
  std::string joined;
  while (true) {
    const std::string token = invited(place, meeting.rank, word);
    if (!token.empty() && token != joined) {
      joined = token;
      write_file(place.file("ready", meeting.rank), token);
    }
    if (!joined.empty()) {
      std::error_code error;
      if (std::filesystem::exists(place.file(joined + "/go"), error)) return joined;
      if (const auto verdict = read_verdict(place.file(joined))) {
        fail(Exit::communication, *verdict);
      }
    }
    if (!place.time_left()) {
      fail(Exit::communication, "rank 0 of ", meeting.size, " did not open ", meeting.folder,
           " within ", meeting.timeout * kOthersWaitLonger,
           " s; start all ranks on a file system they share, or wait longer with --peer-timeout");
    }
    Place::pause();
  }
}

}  // namespace

std::string random_word() {
  std::random_device device;
  std::ostringstream word;
  word << std::hex;
  for (int i = 0; i < 16; ++i) word << (device() & 15);
  return word.str();
}

std::string meet(const Meeting& meeting) {
  const Place place(meeting);
  const std::string word = random_word();
  write_file(place.file("hello", meeting.rank), word);
  return meeting.rank == 0 ? lead(meeting, place) : follow(meeting, place, word);
}

void write_verdict(const std::string& folder, const std::string& sentence) noexcept {
  try {
    write_file(folder + "/lost", sentence);
  } catch (...) {
    // The sentence is also said aloud; a full disk must not keep the rank from ending.
  }
}

std::optional<std::string> read_verdict(const std::string& folder) {
  std::string sentence = read_or_empty(folder + "/lost");
  if (sentence.empty()) return std::nullopt;
  return sentence;
}

}  // namespace tunas::engine
