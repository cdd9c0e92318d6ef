// Config: the values of one call and where each came from. Precedence: flag > environment TUNAS_* >
// --config FILE > recipe > default.
//
// A config file is a JSON object of option names (dashes or underscores) and values; the
// config.json of a run folder, whose values are objects {"value", "from"}, is one, too, so a run is
// repeated by `tunas search --config OLD/config.json --out NEW`.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/verb.h"

namespace tunas::tools {

/// Option name -> text, as given on the command line.
using Flags = std::map<std::string, std::string>;
/// Variable name -> text: those that start with TUNAS_.
using Environment = std::map<std::string, std::string>;

Environment current_environment();

/// Values that a recipe puts in the place of defaults.
using Recipe = std::vector<std::pair<std::string, std::string>>;

class Config {
 public:
  /// Error(Exit::usage) naming the flag, variable or key and, for an unknown one, the nearest.
  Config(const Verb& verb, const Flags& flags, const Environment& environment);

  bool has(const std::string& name) const;
  /// The value; Error(Exit::usage) saying how to give it where it is not set.
  const std::string& text(const std::string& name) const;
  long integer(const std::string& name) const;
  double number(const std::string& name) const;
  bool flag(const std::string& name) const;
  /// "flag --epochs", "environment TUNAS_EPOCHS", "file a.json", "recipe small", "default".
  const std::string& from(const std::string& name) const;

  /// Whether `a` was set by a higher rank than `b`.
  bool outranks(const std::string& a, const std::string& b) const {
    return values_.at(a).rank > values_.at(b).rank;
  }
  /// Of options that exclude each other: the one that was set, by the higher rank where several
  /// were; empty where none was. Error(Exit::usage) naming both where the ranks are equal.
  std::string one_of(const std::vector<std::string>& names) const;

  /// Puts the recipe's values where only a default stood.
  void apply(const std::string& recipe_name, const Recipe& recipe);
  /// Gives a still unset option the default that follows from other values or from the data.
  void settle(const std::string& name, const std::string& value);
  /// Records what a value came to in the end, because of `from`.
  void replace(const std::string& name, const std::string& value, const std::string& from);

  /// {"epochs": {"value": 90, "from": "default"}, ...}: all settings, in the order of the table.
  nlohmann::ordered_json json() const;
  struct Difference {
    std::string name;
    nlohmann::ordered_json here, recorded;  // null: not set
  };
  /// The first setting on which results depend and which `recorded`, another config's json(), has
  /// otherwise.
  std::optional<Difference> first_difference(const nlohmann::ordered_json& recorded) const;

 private:
  enum class Rank : unsigned char { fallback, recipe, file, environment, flag };
  struct Value {
    std::string text;
    Rank rank = Rank::fallback;
    std::string from = "default";
  };
  void read_environment(const Environment& environment);
  void read_file(const std::string& path);
  void set(const Option& option, const std::string& text, Rank rank, const std::string& from);
  const Option& option(const std::string& name) const;

  const Verb* verb_;
  std::map<std::string, Value> values_;
};

}  // namespace tunas::tools
