// Precedence of the five places a value can come from, in pairs; the names generated from the
// table; every refusal names what was wrong and the nearest right name.
#include "tools/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "engine/file.h"
#include "tools/command_line.h"

namespace tunas::tools {
namespace {

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    folder_ =
        std::filesystem::temp_directory_path() / ("tunas_config_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~ConfigTest() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& text) const {
    const std::string path = (folder_ / "c.json").string();
    engine::write_file(path, text);
    return path;
  }

  /// The sentence of the Error(Exit::usage) that `make` throws.
  template <class Make>
  static std::string refusal(const Make& make) {
    try {
      make();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      return error.what();
    }
    ADD_FAILURE() << "nothing was refused";
    return "";
  }

  const Verb verb_ = search_verb();
  std::filesystem::path folder_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The five origins of `epochs`, strongest first, each with its own value.
enum Origin { kFlag, kEnvironment, kFile, kRecipe, kDefault };

TEST_F(ConfigTest, PrecedenceInPairs) {
  const struct {
    const char* value;
    std::string from;
  } origins[] = {{"11", "flag --epochs"},
                 {"12", "environment TUNAS_EPOCHS"},
                 {"13", "file " + (folder_ / "c.json").string()},
                 {"14", "recipe small"},
                 {"90", "default"}};
  const std::string path = file(R"({"epochs": 13})");
  const auto value_of = [&](const std::set<int>& present) {
    Flags flags;
    Environment environment;
    if (present.count(kFlag)) flags["epochs"] = "11";
    if (present.count(kEnvironment)) environment["TUNAS_EPOCHS"] = "12";
    if (present.count(kFile)) flags["config"] = path;
    Config config(verb_, flags, environment);
    if (present.count(kRecipe)) config.apply("small", {{"epochs", "14"}});
    return std::pair(config.text("epochs"), config.from("epochs"));
  };
  for (int strong = kFlag; strong <= kDefault; ++strong) {
    for (int weak = strong; weak <= kDefault; ++weak) {
      EXPECT_EQ(value_of({strong, weak}),
                std::pair(std::string(origins[strong].value), origins[strong].from))
          << strong << " over " << weak;
    }
  }
  EXPECT_EQ(value_of({kFlag, kEnvironment, kFile, kRecipe}).first, "11");
}

TEST_F(ConfigTest, TheConfigFileItselfMayComeFromTheEnvironment) {
  const std::string path =
      file(R"({"batch-size": 32, "val_multiplier": 2.5, "small_images": true})");
  const Config config(verb_, {}, {{"TUNAS_CONFIG", path}});
  EXPECT_EQ(config.integer("batch-size"), 32);
  EXPECT_EQ(config.number("val-multiplier"), 2.5);
  EXPECT_TRUE(config.flag("small-images"));
}

TEST_F(ConfigTest, ARunsConfigRepeatsIt) {
  Config first(verb_, {{"epochs", "3"}, {"space", "s"}, {"small-images", "true"}},
               {{"TUNAS_SEED", "5"}});
  first.apply("small", {{"batch-size", "64"}});
  first.settle("shards", "2");
  const auto json = first.json();
  EXPECT_EQ(json["epochs"].dump(), R"({"value":3.0,"from":"flag --epochs"})");
  EXPECT_EQ(json["seed"].dump(), R"({"value":5,"from":"environment TUNAS_SEED"})");
  EXPECT_EQ(json["batch_size"]["from"], "recipe small");
  EXPECT_EQ(json["shards"]["from"], "default");
  EXPECT_TRUE(json["steps"]["value"].is_null());
  EXPECT_FALSE(json.contains("overwrite"));

  const Config second(verb_, {{"config", file(json.dump())}}, {});
  for (const Option& option : verb_.options) {
    if (option.role != Role::setting) continue;
    EXPECT_EQ(second.json()[config_key(option.name)]["value"],
              json[config_key(option.name)]["value"])
        << option.name;
  }
}

TEST_F(ConfigTest, SettleOnlyFillsWhatIsUnset) {
  Config config(verb_, {{"shards", "4"}}, {});
  config.settle("shards", "2");
  config.settle("target", "57");
  EXPECT_EQ(config.integer("shards"), 4);
  EXPECT_EQ(config.number("target"), 57);
}

TEST_F(ConfigTest, ANumberMayAlsoBeAWord) {
  const auto holdout = [&](const std::string& text) {
    return Config(verb_, {{"holdout", text}}, {}).json()["holdout"]["value"];
  };
  EXPECT_EQ(holdout("12"), 12);
  EXPECT_EQ(holdout("published"), "published");
  EXPECT_EQ(refusal([&] { holdout("publshed"); }),
            "flag --holdout: 'publshed' is not a whole number or published");
  const Config again(verb_, {{"config", file(R"({"holdout": "published"})")}}, {});
  EXPECT_EQ(again.text("holdout"), "published");
}

TEST_F(ConfigTest, UnknownNamesGetTheNearest) {
  const std::string variable = refusal([&] { Config(verb_, {}, {{"TUNAS_EPOHCS", "3"}}); });
  EXPECT_TRUE(contains(variable, "TUNAS_EPOHCS") && contains(variable, "TUNAS_EPOCHS")) << variable;
  const std::string path = file(R"({"bacth_size": 3})");
  const std::string key = refusal([&] { Config(verb_, {{"config", path}}, {}); });
  EXPECT_TRUE(contains(key, path + ": 'bacth_size'") && contains(key, "'batch_size'")) << key;
  const std::string flag = refusal([] { parse_command_line({"search", "--epohcs=3"}); });
  EXPECT_TRUE(contains(flag, "--epohcs; the nearest is --epochs")) << flag;
  const std::string choice = refusal([&] { Config(verb_, {{"reward", "absolut"}}, {}); });
  EXPECT_TRUE(contains(choice, "'absolut'") && contains(choice, "nearest is absolute")) << choice;
}

TEST_F(ConfigTest, WrongValuesNameTheirPlace) {
  EXPECT_TRUE(contains(refusal([&] {
                         Config(verb_, {{"epochs", "ten"}}, {});
                       }),
                       "flag --epochs: 'ten' is not a number"));
  EXPECT_TRUE(contains(refusal([&] {
                         Config(verb_, {}, {{"TUNAS_BATCH_SIZE", "1.5"}});
                       }),
                       "environment TUNAS_BATCH_SIZE: '1.5' is not a whole number"));
  EXPECT_TRUE(contains(refusal([&] { Config(verb_, {{"batch-size", "0"}}, {}); }), "too small"));
  EXPECT_TRUE(contains(refusal([&] { Config(verb_, {{"lr", "nan"}}, {}); }), "is not a number"));
  const std::string path = file(R"({"epochs": [1]})");
  EXPECT_TRUE(contains(refusal([&] { Config(verb_, {{"config", path}}, {}); }), "[1] is not"));
  const std::string broken = file("{");
  EXPECT_TRUE(contains(refusal([&] { Config(verb_, {{"config", broken}}, {}); }), "is not JSON"));
  const std::string call = file(R"({"overwrite": true})");
  EXPECT_TRUE(contains(refusal([&] { Config(verb_, {{"config", call}}, {}); }), "no setting"));
}

TEST_F(ConfigTest, MissingValuesSayHowToGiveThem) {
  const Config config(verb_, {}, {});
  EXPECT_TRUE(contains(refusal([&] { (void)config.text("data"); }), "needs --data SPEC"));
}

TEST(CommandLineTest, FlagsArriveUnderTheirNames) {
  const Call call = parse_command_line(
      {"search", "--space", "s", "--beta", "-0.1", "--small-images", "--lr=1", "--lr", "2"});
  EXPECT_EQ(call.verb->name, "search");
  const Flags wanted = {{"space", "s"}, {"beta", "-0.1"}, {"small-images", "true"}, {"lr", "2"}};
  EXPECT_EQ(call.flags, wanted);
  EXPECT_EQ(parse_command_line({"search", "--small-images=false"}).flags.at("small-images"),
            "false");
  const Flags sample = {{"space", "s"}, {"count", "3"}};
  EXPECT_EQ(parse_command_line({"space", "sample", "s", "-n", "3"}).flags, sample);
}

TEST(CommandLineTest, EveryVerbExplainsEveryOption) {
  for (const Verb& verb : verbs()) {
    std::vector<std::string> words;
    for (std::size_t from = 0; from <= verb.name.size();) {
      const std::size_t to = std::min(verb.name.find(' ', from), verb.name.size());
      words.push_back(verb.name.substr(from, to - from));
      from = to + 1;
    }
    words.push_back("--help");
    const std::string help = parse_command_line(words).answer;
    for (const Option& option : verb.options) {
      const std::string name = option.role == Role::positional ? option.name : "--" + option.name;
      EXPECT_TRUE(contains(help, name)) << verb.name << " " << name;
      EXPECT_FALSE(option.help.empty()) << verb.name << " " << name;
    }
  }
}

TEST(CommandLineTest, ANameMeansTheSameTypeInEveryVerb) {
  std::map<std::string, Type> types;
  for (const Verb& verb : verbs()) {
    std::set<std::string> own;
    for (const Option& option : verb.options) {
      EXPECT_TRUE(own.insert(option.name).second)
          << verb.name << " has " << option.name << " twice";
      const auto [known, is_new] = types.emplace(option.name, option.type);
      EXPECT_TRUE(is_new || known->second == option.type) << option.name;
    }
  }
}

TEST(CommandLineTest, DefaultsPassTheirOwnChecks) {
  for (const Verb& verb : verbs()) {
    for (const Option& option : verb.options) {
      if (option.fallback.empty()) continue;
      EXPECT_NO_THROW(Config(verb, {{option.name, option.fallback}}, {}))
          << verb.name << " " << option.name;
    }
  }
}

}  // namespace
}  // namespace tunas::tools
