// Where a run begins: at its first step, or at a checkpoint (--resume).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/comm.h"
#include "tools/config.h"
#include "tools/run_folder.h"

namespace tunas::tools {

/// --resume, --checkpoint-every, --keep.
std::vector<Option> checkpoint_options();

struct Start {
  std::optional<engine::Checkpoint> checkpoint;  // none: at the first step
  std::string from;                              // the run folder that it lies in
  std::vector<std::string> warnings;             // of checkpoints that are damaged

  /// Whether the checkpoint is one of the run in `folder`.
  bool in(const RunFolder& folder) const;
  std::int64_t step() const { return checkpoint ? checkpoint->step() : 0; }
};

/// What --resume says: `auto` is the newest checkpoint of the run in `folder` that is whole, or
/// none where no run is there. To be called by all ranks, when `config` is settled.
/// Error(Exit::usage) where the checkpoint's settings are others, naming one; Error(Exit::data)
/// where there are checkpoints, but none is whole.
Start find_start(const Config& config, const RunFolder& folder, engine::Comm& comm);

}  // namespace tunas::tools
