#include "tools/steps.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/schedule.h"
#include "tools/selection.h"

namespace tunas::tools {
namespace {

/// Whether --steps decides, not --epochs: unless that has a higher rank; of equal ranks steps.
bool by_steps(const Config& config) {
  return config.has("steps") && !config.outranks("epochs", "steps");
}

std::int64_t count_steps(const Config& config, std::int64_t examples) {
  if (by_steps(config)) return config.integer("steps");
  return engine::step_count(examples, config.number("epochs"), config.integer("batch-size"));
}

/// batch/128, at least `least`, or the next smaller number that divides the batch.
int default_shards(int batch, int least) {
  int shards = std::min(batch, std::max(least, batch / 128));
  while (batch % shards != 0) --shards;
  return shards;
}

}  // namespace

std::vector<Option> step_options(const Recipes& recipes) {
  std::vector<std::string> names;
  for (const NamedRecipe& recipe : recipes.all) names.push_back(recipe.name);
  return {{.name = "recipe",
           .help = "numbers that belong together (default: small under 100000 published steps, "
                   "else " +
                   names.front() + ")",
           .choices = names},
          {.name = "epochs",
           .type = Type::number,
           .fallback = "90",
           .help = "passes over the training images",
           .least = 0},
          {.name = "steps",
           .type = Type::integer,
           .help = "instead of --epochs: the number of steps",
           .least = 1},
          {.name = "batch-size",
           .type = Type::integer,
           .fallback = "4096",
           .unit = "images",
           .help = "of a step, over all shards",
           .least = 1},
          {.name = "shards",
           .type = Type::integer,
           .help = "parts of a batch; each has its own batch statistics and, in a search, its own "
                   "architecture (default: batch/128, at least 1, in a small search 4)",
           .least = 1},
          {.name = "lr",
           .type = Type::number,
           .fallback = fmt::format("{}", engine::weight_peak_rate(256)),
           .help = "peak learning rate of the weights, per 256 images of the batch",
           .least = 0},
          seed_option()};
}

std::string Steps::text() const {
  return fmt::format("{} steps of {} x {} images, {:.1f} epochs, recipe {}", steps, shards,
                     per_shard(), epochs, recipe);
}

Steps plan_steps(Config& config, const Recipes& recipes, std::int64_t examples) {
  if (config.from("steps").starts_with("flag") && config.from("epochs").starts_with("flag")) {
    config.one_of({"steps", "epochs"});  // refuses both; of a recorded run both are known
  }
  const bool few = count_steps(config, examples) < kSmallBelow;
  config.settle("recipe", few ? "small" : recipes.all.front().name);
  Steps steps;
  steps.recipe = config.text("recipe");
  for (const NamedRecipe& recipe : recipes.all) {
    if (recipe.name == steps.recipe) config.apply(recipe.name, recipe.values);
  }
  const int least_shards = steps.recipe == "small" ? recipes.small_shards : 1;
  steps.batch = static_cast<int>(config.integer("batch-size"));
  config.settle("shards", std::to_string(default_shards(steps.batch, least_shards)));
  steps.shards = static_cast<int>(config.integer("shards"));
  steps.steps = count_steps(config, examples);
  steps.epochs = static_cast<double>(steps.steps) * steps.batch / static_cast<double>(examples);
  require(steps.batch % steps.shards == 0, "a batch of ", steps.batch,
          " images cannot be cut into ", steps.shards,
          " equal shards; change --batch-size or --shards");
  require(steps.steps > 0, config.text("epochs"), " epochs of ", examples, " images are less than ",
          "one step of ", steps.batch, "; use a smaller --batch-size or more --epochs");
  const std::string from = config.from(by_steps(config) ? "steps" : "epochs");
  config.replace("steps", std::to_string(steps.steps), from);
  config.replace("epochs", fmt::format("{}", steps.epochs), from);
  return steps;
}

}  // namespace tunas::tools
