#include "tools/not_finite.h"

#include <spdlog/spdlog.h>

#include <cmath>

namespace tunas::tools {

engine::Json marked(engine::Json line, const std::optional<search::NotFinite>& not_finite) {
  if (!not_finite) return line;
  for (engine::Json& value : line) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) value = nullptr;
  }
  line["skipped"] = not_finite->layer;
  spdlog::warn("{}", not_finite->text());
  return line;
}

}  // namespace tunas::tools
