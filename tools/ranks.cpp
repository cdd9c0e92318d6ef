#include "tools/ranks.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "engine/gloo.h"
#include "engine/nccl.h"

namespace tunas::tools {
namespace {

/// How one launcher names what it tells.
struct Names {
  const char *rank, *size, *local, *local_size;
};

constexpr Names kOurs = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
// Of the job step: SLURM_NTASKS is also set in a batch script, where nobody else was started.
// It binds each task to cores of its own, so that nobody needs to know how many tasks there are.
constexpr Names kSlurm = {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr};
constexpr Names kOpenMpi = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
/// The step that a batch script itself runs in: alone.
constexpr const char* kBatchStep = "4294967291";  // SLURM_BATCH_SCRIPT

int number(const Variables& variables, const char* name) {
  const char* text = variables(name);
  require(text != nullptr && *text != '\0', "the environment lacks ", name,
          ", which is set with the others by tunas launch, torchrun, srun and mpirun");
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  require(errno == 0 && *end == '\0' && value >= 0 && value <= 1'000'000, "the environment says ",
          name, "=", text, ", which is no whole number from 0");
  return static_cast<int>(value);
}

Ranks read(const Variables& variables, const Names& names) {
  const auto or_else = [&](const char* name, int absent) {
    return name == nullptr || variables(name) == nullptr ? absent : number(variables, name);
  };
  const Ranks ranks = {number(variables, names.rank), number(variables, names.size),
                       or_else(names.local, 0), or_else(names.local_size, 1)};
  require(ranks.size > 0, "the environment says ", names.size, "=0; a run has at least one rank");
  require(ranks.rank < ranks.size, "the environment says ", names.rank, "=", ranks.rank, " and ",
          names.size, "=", ranks.size, "; ranks count from 0 to ", ranks.size - 1);
  require(ranks.local < ranks.size, "the environment says ", names.local, "=", ranks.local, " and ",
          names.size, "=", ranks.size, "; a machine holds no more ranks than there are");
  return ranks;
}

bool has(const Variables& variables, const char* name) { return variables(name) != nullptr; }

bool in_slurm_step(const Variables& variables) {
  const char* step = variables("SLURM_STEP_ID");
  return step != nullptr && std::string(step) != kBatchStep && has(variables, kSlurm.size);
}

}  // namespace

Ranks read_ranks(const Variables& variables) {
  if (has(variables, kOurs.rank) || has(variables, kOurs.size)) return read(variables, kOurs);
  // mpirun within a Slurm job starts its own daemons as a step: its variables are the nearer ones.
  if (has(variables, kOpenMpi.rank)) return read(variables, kOpenMpi);
  if (in_slurm_step(variables)) return read(variables, kSlurm);
  return {};
}

Ranks ranks() {
  return read_ranks([](const char* name) -> const char* { return std::getenv(name); });
}

int threads_of(const Ranks& ranks) {
  const auto processors = static_cast<int>(std::thread::hardware_concurrency());
  const int share = std::max(1, processors / ranks.local_size);
  return ranks.local_size == 1 || engine::available_cores() <= share ? 0 : share;
}

std::vector<Option> rank_options() {
  return {{.name = "deterministic",
           .help = "ranks add gradients in one order, the same for any number of them, or as is "
                   "fastest (default: on for the CPU, off for CUDA)",
           .choices = {"on", "off"}},
          {.name = "peer-timeout",
           .type = Type::number,
           .fallback = "120",
           .unit = "seconds",
           .help = "a rank that is silent for so long is lost, and ends the run",
           .least = 0.1,
           .most = 86400,
           .role = Role::call}};
}

std::unique_ptr<engine::Comm> open_comm(const Config& config, const RunFolder& folder,
                                        const engine::Device& device, int shards) {
  const Ranks here = ranks();
  if (here.size == 1) return std::make_unique<engine::Solo>();
  const bool cuda = device.kind() == Kind::cuda;
  const bool fixed = config.has("deterministic") ? config.text("deterministic") == "on" : !cuda;
  const engine::Sums sums = fixed ? engine::Sums::fixed : engine::Sums::fast;
  engine::check_shards(sums, here.size, shards);
  if (cuda) engine::Nccl::check_built_in();  // before waiting for the others
  auto gloo = std::make_unique<engine::Gloo>(engine::GlooSetting{
      here.rank, here.size, folder.file("rendezvous"), config.number("peer-timeout"), sums});
  if (!cuda) return gloo;
  return std::make_unique<engine::Nccl>(std::move(gloo), device, sums);
}

}  // namespace tunas::tools
