// A verb of the program is data: its name, its options, what it does. From the table of options
// come the flags (--batch-size), the environment's names (TUNAS_BATCH_SIZE), the keys of a config
// file and of a run folder's config.json (batch_size), and the help.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace tunas::tools {

class Config;

enum class Type : unsigned char { text, integer, number, flag };

/// setting: says what is computed, may stand in a config file, is recorded in config.json.
/// manner: the same, but results do not depend on it: a resumed run may have another.
/// call: says how this call is carried out; flags and environment only, recorded nowhere.
/// positional: a word without a flag, as SPACE in `tunas space show SPACE`.
enum class Role : unsigned char { setting, manner, call, positional };

struct Option {
  std::string name = {};  // as on the command line, without the dashes
  Type type = Type::text;
  std::string fallback = {};  // empty: not set
  std::string unit = {};      // what the value is or is counted in: FILE, images, ms
  std::string help = {};
  std::vector<std::string> choices = {};  // of text, empty: anything; of numbers: words besides
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();  // of whole numbers, unless said: 2^31-1
  Role role = Role::setting;
  char letter = 0;  // of the short flag

  bool recorded() const { return role == Role::setting || role == Role::manner; }
};

struct Verb {
  std::string name;  // "search", "space show"
  std::string summary;
  std::vector<Option> options;
  Exit (*run)(const Config& config);
  /// Instead of `run`, of a verb that starts another one: given the words behind `--`.
  Exit (*start)(const Config& config, const std::vector<std::string>& command) = nullptr;
};

/// All verbs, in the order of the help.
const std::vector<Verb>& verbs();

Verb space_list_verb();
Verb space_show_verb();
Verb space_count_verb();
Verb space_sample_verb();
Verb arch_show_verb();
Verb arch_export_verb();
Verb cost_verb();
Verb search_verb();
Verb train_verb();
Verb eval_verb();
Verb import_verb();
Verb export_verb();
Verb latency_measure_verb();
Verb profile_verb();
Verb launch_verb();
Verb doctor_verb();
Verb data_index_verb();
Verb data_check_verb();
Verb data_pack_verb();
Verb data_stats_verb();
Verb data_bench_verb();

/// TUNAS_BATCH_SIZE of batch-size; the config key batch_size.
std::string environment_name(const std::string& option);
std::string config_key(const std::string& option);

}  // namespace tunas::tools
