#include "tools/resume.h"

#include <filesystem>

#include "kernels/error.h"

namespace tunas::tools {
namespace {

/// The newest checkpoint of the run in `folder`; none where no run is there.
std::optional<engine::Checkpoint> newest(const RunFolder& folder,
                                         std::vector<std::string>& warnings) {
  if (folder.empty()) return std::nullopt;
  const std::string root = folder.file("checkpoints");
  std::optional<engine::Checkpoint> found = engine::newest_checkpoint(root, warnings);
  if (found) return found;
  if (!warnings.empty()) {
    fail(Exit::data, root, ": none of its ", warnings.size(),
         " checkpoints is whole; --overwrite begins anew");
  }
  require(!std::filesystem::exists(folder.file("weights.safetensors")), folder.path(),
          ": the run in it has ended and left no checkpoint to go on from; choose another --out, "
          "or --overwrite to replace it");
  return std::nullopt;
}

/// What rank 0 says, on all ranks.
std::string told(engine::Comm& comm, std::string text) {
  std::uint64_t size = text.size();
  comm.broadcast(&size, sizeof size, 0);
  text.resize(size);
  comm.broadcast(text.data(), size, 0);
  return text;
}

/// How a setting is given: "--lr 0.1", or "no --lr".
std::string given(const std::string& name, const nlohmann::ordered_json& value) {
  return value.is_null() ? "no --" + name : "--" + name + " " + value.dump();
}

}  // namespace

bool Start::in(const RunFolder& folder) const {
  std::error_code error;
  return checkpoint && std::filesystem::equivalent(from, folder.path(), error);
}

std::vector<Option> checkpoint_options() {
  return {{.name = "resume",
           .unit = "auto|DIR",
           .help = "go on from a checkpoint: the newest of the run in --out (a new run where there "
                   "is none), or the one in DIR",
           .role = Role::call},
          {.name = "checkpoint-every",
           .type = Type::integer,
           .fallback = "500",
           .unit = "steps",
           .help = "from one checkpoint to the next; the last step has one, too",
           .least = 1,
           .role = Role::manner},
          {.name = "keep",
           .type = Type::integer,
           .fallback = "3",
           .help = "how many of the last checkpoints are kept; the best one is, too",
           .least = 1,
           .role = Role::manner}};
}

Start find_start(const Config& config, const RunFolder& folder, engine::Comm& comm) {
  Start start;
  if (!config.has("resume")) return start;
  std::string chosen = config.text("resume");
  if (chosen == "auto") {  // rank 0 chooses for all
    if (comm.rank() == 0) start.checkpoint = newest(folder, start.warnings);
    chosen = told(comm, start.checkpoint ? start.checkpoint->folder() : "");
    if (chosen.empty()) return start;
  }
  if (!start.checkpoint) start.checkpoint.emplace(chosen);
  start.from = std::filesystem::canonical(chosen).parent_path().parent_path().string();
  require(folder.empty() || start.in(folder), folder.path(), ": holds another run than ", chosen,
          "; choose a new --out");
  if (const auto differs = config.first_difference(start.checkpoint->config())) {
    fail(Exit::usage, chosen, ": was written by a run with ",
         given(differs->name, differs->recorded), ", this call has ",
         given(differs->name, differs->here), " (", config.from(differs->name),
         "); give the same, or begin a new run in another --out");
  }
  return start;
}

}  // namespace tunas::tools
