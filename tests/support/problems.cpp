#include "tests/support/problems.h"

#include <charconv>
#include <sstream>
#include <utility>

#include "kernels/error.h"

namespace tunas::test {
namespace {

constexpr std::pair<const char*, Act> kActs[] = {
    {"none", Act::none},       {"relu", Act::relu},
    {"relu6", Act::relu6},     {"hard_swish", Act::hard_swish},
    {"sigmoid", Act::sigmoid}, {"hard_sigmoid", Act::hard_sigmoid},
};

int positive(const Problem& problem, std::string_view digits, std::string_view word) {
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  require(error == std::errc() && end == digits.data() + digits.size() && value > 0, "problem '",
          problem.text, "': '", word, "' needs a positive number");
  return value;
}

Width width(const Problem& problem, std::string_view value, std::string_view word) {
  const auto slash = value.find('/');
  const int now = positive(problem, value.substr(0, slash), word);
  if (slash == std::string_view::npos) return {now, now};
  const int max = positive(problem, value.substr(slash + 1), word);
  require(now <= max, "problem '", problem.text, "': '", word,
          "' has more active channels than stored ones");
  return {max, now};
}

Act activation(const Problem& problem, std::string_view value, std::string_view word) {
  for (const auto& [text, act] : kActs) {
    if (value == text) return act;
  }
  fail(Exit::usage, "problem '", problem.text, "': '", word,
       "' is no activation; use none, relu, relu6, hard_swish, sigmoid or hard_sigmoid");
}

void set_flag(Problem& problem, std::string_view word) {
  const std::pair<const char*, bool*> flags[] = {
      {"norm", &problem.norm},         {"gate", &problem.gate},
      {"bias", &problem.bias},         {"accumulate", &problem.accumulate},
      {"deferred", &problem.deferred}, {"spread", &problem.spread},
      {"slopes", &problem.slopes},     {"addend", &problem.addend},
      {"in_place", &problem.in_place}};
  for (const auto& [text, flag] : flags) {
    if (word == text) {
      *flag = true;
      return;
    }
  }
  fail(Exit::usage, "problem '", problem.text, "': unknown flag '", word,
       "'; flags are norm, gate, bias, accumulate, deferred, spread, slopes, addend, in_place");
}

void set_value(Problem& problem, std::string_view key, std::string_view value,
               std::string_view word) {
  if (key == "n") {
    problem.n = positive(problem, value, word);
  } else if (key == "hw") {
    problem.h = problem.w = positive(problem, value, word);
  } else if (key == "h") {
    problem.h = positive(problem, value, word);
  } else if (key == "w") {
    problem.w = positive(problem, value, word);
  } else if (key == "c") {
    problem.c = width(problem, value, word);
  } else if (key == "o") {
    problem.o = width(problem, value, word);
  } else if (key == "e") {
    problem.e = width(problem, value, word);
  } else if (key == "k") {
    problem.k = positive(problem, value, word);
  } else if (key == "s") {
    problem.s = positive(problem, value, word);
  } else if (key == "size") {
    problem.size = positive(problem, value, word);
  } else if (key == "act") {
    problem.act = activation(problem, value, word);
  } else if (key == "pad" && value == "same") {
    problem.padding = Padding::same;
  } else if (key == "pad" && value == "symmetric") {
    problem.padding = Padding::symmetric;
  } else {
    fail(Exit::usage, "problem '", problem.text, "': cannot read '", word,
         "'; keys are n, hw, h, w, c, o, e, k, s, size, act and pad=same|symmetric");
  }
}

}  // namespace

const char* name(Act act) {
  for (const auto& [text, value] : kActs) {
    if (value == act) return text;
  }
  fail(Exit::usage, "Act ", static_cast<int>(act), " has no name");
}

Problem Problem::parse(std::string_view text) {
  Problem problem;
  problem.text = text;
  std::istringstream words(problem.text);
  words >> problem.op;
  require(!problem.op.empty() && problem.op.find('=') == std::string::npos, "problem '", text,
          "': the first word must be the operation, as in 'depthwise n=2 hw=28 c=240/512 k=5'");
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      set_flag(problem, word);
    } else {
      const std::string_view view = word;
      set_value(problem, view.substr(0, equals), view.substr(equals + 1), word);
    }
  }
  return problem;
}

}  // namespace tunas::test
