#include "tools/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "engine/file.h"
#include "search/nearest_name.h"

namespace tunas::tools {
namespace {

constexpr const char* kPrefix = "TUNAS_";
/// Variables that are no options: of kernels/isa.h, and of the tests.
const std::vector<std::string> kOtherVariables = {"TUNAS_ISA", "TUNAS_SHARED", "TUNAS_SYNC"};

template <class Number>
bool parse(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string joined(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

bool is_choice(const Option& option, const std::string& text) {
  return std::find(option.choices.begin(), option.choices.end(), text) != option.choices.end();
}

/// Checks `text` against the option; returns it in its one spelling (flags: true or false).
std::string checked(const Option& option, const std::string& text, const std::string& from) {
  const auto refuse = [&](const std::string& wanted) {
    fail(Exit::usage, from, ": '", text, "' is not ", wanted);
  };
  double value = 0;
  switch (option.type) {
    case Type::text:
      if (!option.choices.empty() && !is_choice(option, text)) {
        refuse("one of " + joined(option.choices) + "; the nearest is " +
               search::nearest_name(text, option.choices));
      }
      return text;
    case Type::flag:
      if (text == "true" || text == "1") return "true";
      if (text == "false" || text == "0") return "false";
      refuse("true or false");
      break;
    case Type::integer: {
      if (is_choice(option, text)) return text;
      long whole = 0;
      if (!parse(text, whole)) {
        refuse("a whole number" + (option.choices.empty() ? "" : " or " + joined(option.choices)));
      }
      value = static_cast<double>(whole);
      break;
    }
    case Type::number:
      if (!parse(text, value) || !std::isfinite(value)) refuse("a number");
      break;
  }
  if (value < option.least) {
    fail(Exit::usage, from, ": ", text, " is too small; the least is ", option.least);
  }
  const bool int_at_most = option.type == Type::integer && std::isinf(option.most);
  const double most = int_at_most ? std::numeric_limits<int>::max() : option.most;
  if (value > most) {
    fail(Exit::usage, from, ": ", text, " is too large; the most is ", fmt::format("{}", most));
  }
  return text;
}

/// The text of a config file's value; null, an option that is not set, gives an empty one.
std::string text_of(const nlohmann::json& value, const std::string& from) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  fail(Exit::usage, from, ": ", value.dump(), " is not a string, a number, true or false");
}

}  // namespace

std::string environment_name(const std::string& option) {
  std::string name = kPrefix + config_key(option);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

std::string config_key(const std::string& option) {
  std::string key = option;
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

Environment current_environment() {
  Environment found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string line = *entry;
    const std::size_t equals = line.find('=');
    if (line.rfind(kPrefix, 0) == 0 && equals != std::string::npos) {
      found[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return found;
}

Config::Config(const Verb& verb, const Flags& flags, const Environment& environment)
    : verb_(&verb) {
  for (const Option& option : verb.options) values_[option.name].text = option.fallback;
  for (const auto& [name, text] : flags) {
    const Option& given = option(name);
    set(given, text, Rank::flag, given.role == Role::positional ? name : "flag --" + name);
  }
  read_environment(environment);
  if (has("config")) read_file(text("config"));
}

void Config::read_environment(const Environment& environment) {
  std::vector<std::string> known = kOtherVariables;
  for (const Verb& verb : verbs()) {
    for (const Option& option : verb.options) known.push_back(environment_name(option.name));
  }
  for (const auto& [name, text] : environment) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      fail(Exit::usage, "environment ", name, ": no option has this name; the nearest is ",
           search::nearest_name(name, known));
    }
  }
  for (const Option& option : verb_->options) {
    const auto found = environment.find(environment_name(option.name));
    if (option.role == Role::positional || found == environment.end()) continue;
    set(option, found->second, Rank::environment, "environment " + found->first);
  }
}

namespace {

/// Whether somebody chose a recorded value: another recipe replaces those that nobody did.
bool chosen(const nlohmann::json& recorded) {
  const auto from = recorded.find("from");
  if (from == recorded.end() || !from->is_string()) return true;
  const auto& text = from->get_ref<const std::string&>();
  return text != "default" && !text.starts_with("recipe ");
}

}  // namespace

void Config::read_file(const std::string& path) {
  nlohmann::json root;
  try {
    root = nlohmann::json::parse(engine::read_file(path));
  } catch (const nlohmann::json::exception& error) {
    fail(Exit::usage, path, ": is not JSON (", error.what(), ")");
  }
  require(root.is_object(), path, ": is not a JSON object of option names and values");
  std::vector<std::string> known;
  for (const Option& option : verb_->options) {
    if (option.recorded()) known.push_back(config_key(option.name));
  }
  const bool other_recipe = has("recipe");  // a higher rank asks for it
  for (const auto& [name, value] : root.items()) {
    const std::string key = config_key(name);
    const auto found = std::find_if(
        verb_->options.begin(), verb_->options.end(),
        [&](const Option& option) { return option.recorded() && config_key(option.name) == key; });
    require(found != verb_->options.end(), path, ": '", name, "' is no setting of tunas ",
            verb_->name, "; the nearest is '", search::nearest_name(key, known), "'");
    // In the config.json of a run folder a value stands beside its origin.
    const bool pair = value.is_object() && value.contains("value");
    if (pair && other_recipe && !chosen(value)) continue;
    const std::string text = text_of(pair ? value["value"] : value, path + ": " + name);
    if (!text.empty()) set(*found, text, Rank::file, "file " + path);
  }
}

void Config::set(const Option& option, const std::string& text, Rank rank,
                 const std::string& from) {
  const bool file = rank == Rank::file;
  const std::string value = checked(option, text, file ? from + ": " + option.name : from);
  Value& slot = values_.at(option.name);
  if (rank >= slot.rank) slot = {value, rank, from};
}

const Option& Config::option(const std::string& name) const {
  const auto found = std::find_if(verb_->options.begin(), verb_->options.end(),
                                  [&](const Option& option) { return option.name == name; });
  if (found == verb_->options.end()) {
    throw std::logic_error("tunas " + verb_->name + " has no option --" + name);
  }
  return *found;
}

bool Config::has(const std::string& name) const {
  const auto found = values_.find(name);
  return found != values_.end() && !found->second.text.empty();
}

const std::string& Config::text(const std::string& name) const {
  if (has(name)) return values_.at(name).text;
  const Option& missing = option(name);
  const std::string dashes = missing.role == Role::positional ? "" : "--";
  fail(Exit::usage, "tunas ", verb_->name, " needs ", dashes, name, missing.unit.empty() ? "" : " ",
       missing.unit, ": ", missing.help);
}

long Config::integer(const std::string& name) const {
  long value = 0;
  parse(text(name), value);
  return value;
}

double Config::number(const std::string& name) const {
  double value = 0;
  parse(text(name), value);
  return value;
}

bool Config::flag(const std::string& name) const {
  return has(name) && values_.at(name).text == "true";
}

const std::string& Config::from(const std::string& name) const { return values_.at(name).from; }

std::string Config::one_of(const std::vector<std::string>& names) const {
  std::string best;
  for (const std::string& name : names) {
    if (!has(name)) continue;
    if (best.empty() || values_.at(name).rank > values_.at(best).rank) {
      best = name;
    } else if (values_.at(name).rank == values_.at(best).rank) {
      fail(Exit::usage, from(best), " and ", from(name), " exclude each other; leave one out");
    }
  }
  return best;
}

void Config::apply(const std::string& recipe_name, const Recipe& recipe) {
  for (const auto& [name, text] : recipe) {
    set(option(name), text, Rank::recipe, "recipe " + recipe_name);
  }
}

void Config::settle(const std::string& name, const std::string& value) {
  if (has(name)) return;
  values_.at(name).text = checked(option(name), value, "default of --" + name);
}

void Config::replace(const std::string& name, const std::string& value, const std::string& from) {
  Value& slot = values_.at(name);
  slot.text = checked(option(name), value, from);
  slot.from = from;
}

nlohmann::ordered_json Config::json() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::object();
  for (const Option& option : verb_->options) {
    if (!option.recorded()) continue;
    nlohmann::ordered_json value;
    if (has(option.name)) {
      switch (option.type) {
        case Type::text:
          value = text(option.name);
          break;
        case Type::integer:
          if (is_choice(option, text(option.name))) {
            value = text(option.name);
          } else {
            value = integer(option.name);
          }
          break;
        case Type::number:
          value = number(option.name);
          break;
        case Type::flag:
          value = flag(option.name);
          break;
      }
    }
    all[config_key(option.name)] = {{"value", value}, {"from", from(option.name)}};
  }
  return all;
}

std::optional<Config::Difference> Config::first_difference(
    const nlohmann::ordered_json& recorded) const {
  const nlohmann::ordered_json own = json();
  for (const Option& option : verb_->options) {
    if (option.role != Role::setting) continue;
    const std::string key = config_key(option.name);
    const auto found = recorded.find(key);
    const bool known = found != recorded.end() && found->is_object() && found->contains("value");
    const nlohmann::ordered_json there = known ? found->at("value") : nlohmann::ordered_json();
    const nlohmann::ordered_json& here = own.at(key).at("value");
    if (here != there) return Difference{option.name, here, there};
  }
  return std::nullopt;
}

}  // namespace tunas::tools
