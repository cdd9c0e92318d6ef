#include "tools/predictions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

namespace tunas::tools {
namespace {

std::vector<int> best_classes(std::span<const float> logits, std::size_t count) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](int a, int b) {
                      const float x = logits[static_cast<std::size_t>(a)];
                      const float y = logits[static_cast<std::size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  order.resize(count);
  return order;
}

}  // namespace

void Predictions::add(const std::string& key, std::int32_t label, std::span<const float> logits) {
  const std::span<const float> outputs = logits.first(static_cast<std::size_t>(classes_));
  const auto replace = nlohmann::json::error_handler_t::replace;  // a key need not be UTF-8
  std::string line = R"({"key": )" + nlohmann::json(key).dump(-1, ' ', false, replace) +
                     R"(, "label": )" + std::to_string(label) + R"(, "top5": [)";
  const auto list = [&](const auto& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i > 0) line += ", ";
      if (std::isfinite(static_cast<float>(values[i]))) {
        fmt::format_to(std::back_inserter(line), "{}", values[i]);
      } else {
        line += "null";  // JSON has no such numbers
      }
    }
  };
  list(best_classes(outputs, 5));
  line += R"(], "logits": [)";
  list(outputs);
  line += "]}\n";
  file_.write(line.data(), line.size());
}

}  // namespace tunas::tools
