// Predictions: what a network says of each image, one JSON object a line.
//
//   {"key": "n01440764_tench", "label": 0, "top5": [0, 389, ...], "logits": [...]}
//
// The key is the file where the file holds nothing else. Classes come best first, the lower index
// first where logits are equal. The file appears when all images were scored, or not at all.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "engine/file.h"

namespace tunas::tools {

class Predictions {
 public:
  /// Of networks with `classes` outputs.
  Predictions(const std::string& path, int classes) : file_(path), classes_(classes) {}

  void add(const std::string& key, std::int32_t label, std::span<const float> logits);
  void commit() { file_.commit(); }

 private:
  engine::NewFile file_;
  int classes_;
};

}  // namespace tunas::tools
