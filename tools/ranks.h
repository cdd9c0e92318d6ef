// Ranks: which of the processes of a run this one is, and what joins them.
//
// The environment says which: RANK, WORLD_SIZE, LOCAL_RANK (tunas launch, torchrun), otherwise
// Slurm's (srun) or Open MPI's variables; without any of them a process is alone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/comm.h"
#include "engine/device.h"
#include "tools/config.h"
#include "tools/run_folder.h"

namespace tunas::tools {

struct Ranks {
  int rank = 0;
  int size = 1;
  int local = 0;  // among those of this machine: the number of its GPU
  int local_size = 1;
};

/// The value of a variable, or null: std::getenv.
using Variables = std::function<const char*(const char*)>;

/// Error(Exit::usage) naming the variable and its value where they make no sense.
Ranks read_ranks(const Variables& variables);
/// Of this process.
Ranks ranks();

/// Threads of a CPU rank, where nothing is said: its part of the machine's processors, or 0, all
/// that the process may use, where that is no more.
int threads_of(const Ranks& ranks);

/// --deterministic, --peer-timeout.
std::vector<Option> rank_options();

/// Joins the ranks of the run in `folder`, through files in `folder`/rendezvous; returns when all
/// are there. To be called by every rank after it has looked at the folder and before any of them
/// writes to it. A lone process opens nothing. Error(Exit::communication) naming the ranks that do
/// not come; from then on a lost rank ends the process with that code.
/// Error(Exit::usage) where they cannot share `shards` a step.
std::unique_ptr<engine::Comm> open_comm(const Config& config, const RunFolder& folder,
                                        const engine::Device& device, int shards);

}  // namespace tunas::tools
