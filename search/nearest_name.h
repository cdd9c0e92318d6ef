// The valid name a mistyped one most likely stands for: least edit distance, first on ties.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tunas::search {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

/// `names` must not be empty.
const std::string& nearest_name(std::string_view name, const std::vector<std::string>& names);

}  // namespace tunas::search
