// What a space must satisfy to be a network that the engine runs.
#pragma once

#include <string>

#include "search/space.h"

namespace tunas::search {

/// Error naming `where`, the place, the value and the rule that is broken.
void check_rules(const Space& space, const std::string& where);

}  // namespace tunas::search
