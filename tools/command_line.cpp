#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "search/nearest_name.h"

namespace tunas::tools {
namespace {

/// Of the verbs that begin with `group`; empty where none does.
std::string verb_list(const std::string& group) {
  std::size_t width = 0;
  for (const Verb& verb : verbs()) width = std::max(width, verb.name.size() + 2);
  std::string text;
  for (const Verb& verb : verbs()) {
    if (!verb.name.starts_with(group)) continue;
    text += "  " + verb.name + std::string(width - verb.name.size(), ' ') + verb.summary + "\n";
  }
  return text;
}

std::string overview() {
  return "tunas searches mobile architectures with shared weights (TuNAS) and trains what it "
         "finds.\n\n"
         "tunas VERB [OPTIONS]; tunas VERB --help says more\n\n" +
         verb_list("");
}

bool is_help(const std::string& word) { return word == "--help" || word == "-h" || word == "help"; }

/// The verb that the words begin with.
const Verb& find_verb(const std::vector<std::string>& words) {
  const std::string one = words[0], two = one + " " + (words.size() > 1 ? words[1] : "");
  std::vector<std::string> names, group;
  for (const Verb& verb : verbs()) {
    if (verb.name == two || verb.name == one) return verb;
    names.push_back(verb.name);
    if (verb.name.starts_with(one + " ")) group.push_back(verb.name.substr(one.size() + 1));
  }
  if (!group.empty()) {
    std::string list;
    for (const std::string& name : group) list += (list.empty() ? "" : ", ") + name;
    fail(Exit::usage, "tunas ", one, " needs one of ", list, ", as in tunas ", one, " ", group[0]);
  }
  const std::string &near_one = search::nearest_name(one, names),
                    &near_two = search::nearest_name(two, names);
  const bool second = search::edit_distance(two, near_two) < search::edit_distance(one, near_one);
  fail(Exit::usage, "unknown verb '", second ? two : one, "'; the nearest is '",
       second ? near_two : near_one, "' (tunas --help lists all)");
}

/// What stands behind a flag in the help: its unit, or its choices.
std::string value_name(const Option& option) {
  if (!option.choices.empty()) {
    std::string list;
    if (option.type == Type::integer) list = "N";
    for (const std::string& choice : option.choices) list += (list.empty() ? "" : "|") + choice;
    return list;
  }
  if (!option.unit.empty()) return option.unit;
  return option.type == Type::text ? "TEXT" : "N";
}

void declare(CLI::App& app, const Option& option, std::string& slot) {
  std::string name = option.role == Role::positional ? option.name : "--" + option.name;
  if (option.letter != 0) name += std::string(",-") + option.letter;
  const std::string help = option.help + (option.fallback.empty() || option.type == Type::flag
                                              ? ""
                                              : " (default " + option.fallback + ")");
  CLI::Option* made =
      option.type == Type::flag ? app.add_flag(name, slot, help) : app.add_option(name, slot, help);
  if (option.type != Type::flag) made->type_name(value_name(option));
  made->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

/// The first word that the verb does not know.
[[noreturn]] void refuse_extra(const Verb& verb, const std::string& extra) {
  if (extra.rfind("-", 0) != 0) {
    fail(Exit::usage, "tunas ", verb.name, ": unexpected word '", extra,
         "'; a value follows its flag, as in --seed 1");
  }
  std::vector<std::string> names = {"--help"};
  for (const Option& option : verb.options) {
    if (option.role != Role::positional) names.push_back("--" + option.name);
  }
  const std::string name = extra.substr(0, extra.find('='));
  fail(Exit::usage, "tunas ", verb.name, ": unknown flag ", name, "; the nearest is ",
       search::nearest_name(name, names));
}

}  // namespace

Call parse_command_line(const std::vector<std::string>& words) {
  require(!words.empty(), "tunas needs a verb, such as 'tunas doctor'; tunas --help lists all");
  if (words.size() > 1 && words[0] == "help") {  // tunas help search, tunas help space show
    std::vector<std::string> turned(words.begin() + 1, words.end());
    turned.emplace_back("--help");
    return parse_command_line(turned);
  }
  if (is_help(words[0])) return {nullptr, {}, overview()};
  if (words.size() == 2 && is_help(words[1])) {
    const std::string group = verb_list(words[0] + " ");
    if (!group.empty()) return {nullptr, {}, group};
  }
  if (words[0] == "--version") return {nullptr, {}, "tunas " TUNAS_VERSION "\n"};

  const Verb& verb = find_verb(words);
  CLI::App app(verb.summary, "tunas " + verb.name);
  app.allow_extras();
  app.footer(
      "Every option can also be set by the environment (TUNAS_BATCH_SIZE for --batch-size) and,\n"
      "where there is --config, by a JSON file; a flag wins over both.");
  std::map<std::string, std::string> slots;
  for (const Option& option : verb.options) declare(app, option, slots[option.name]);

  const auto name_words = 1 + std::count(verb.name.begin(), verb.name.end(), ' ');
  // Only a verb that starts another one knows words behind `--`.
  const auto end =
      verb.start == nullptr ? words.end() : std::find(words.begin(), words.end(), "--");
  std::vector<std::string> reversed(words.begin() + name_words, end);
  std::reverse(reversed.begin(), reversed.end());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return {nullptr, {}, app.help()};
  } catch (const CLI::ParseError& error) {
    fail(Exit::usage, "tunas ", verb.name, ": ", error.what(), "; tunas ", verb.name,
         " --help says more");
  }
  if (!app.remaining().empty()) refuse_extra(verb, app.remaining().front());

  Call call{&verb, {}, ""};
  if (end != words.end()) call.command.assign(end + 1, words.end());
  for (const Option& option : verb.options) {
    const std::string name = option.role == Role::positional ? option.name : "--" + option.name;
    if (app.get_option(name)->count() > 0) call.flags[option.name] = slots[option.name];
  }
  return call;
}

}  // namespace tunas::tools
