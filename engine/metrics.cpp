#include "engine/metrics.h"

#include <cmath>
#include <utility>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

bool finite(const Json& value) {
  if (value.is_number_float()) return std::isfinite(value.get<double>());
  if (value.is_structured()) {
    for (const Json& part : value) {
      if (!finite(part)) return false;
    }
  }
  return true;
}

}  // namespace

JsonLines::JsonLines(std::string path) : path_(std::move(path)), file_(path_) {}

JsonLines::JsonLines(std::string path, std::int64_t keep)
    : path_(std::move(path)), file_(path_, keep) {}

void JsonLines::write(const Json& object) {
  for (const auto& [key, value] : object.items()) {
    if (!finite(value)) {
      fail(Exit::numeric, path_, ": '", key, "' is not a finite number in ", object.dump(),
           "; lower the learning rates");
    }
  }
  file_.write(object.dump());
}

}  // namespace tunas::engine
