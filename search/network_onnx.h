// A network as an ONNX file for inference anywhere: `input` float [batch][3][R][R], RGB, already
// normalised; `logits` float [batch][classes]. Batch norms (running averages) are folded into the
// convolutions before them, in double precision:
//
//   w' = w * gamma / sqrt(variance + epsilon)     b' = beta - mean * gamma / sqrt(variance +
//   epsilon)
//
// Padding is explicit, so that TensorFlow's uneven one survives. metadata_props say what the file
// cannot: name, preprocessing (resize, resolution, mean, std, interpolation).
#pragma once

#include <map>
#include <string>

#include "engine/param.h"
#include "search/space.h"

namespace tunas::search {

struct OnnxExport {
  const Space& network;  // one point; its resolution becomes that of the input
  const engine::ParamStore& params;
  std::map<std::string, std::string> metadata = {};
  std::string version = {};  // of this program
};

/// Error(Exit::data) where the file cannot be written; Error(Exit::numeric) where a folded weight
/// is not finite.
void write_onnx(const OnnxExport& args, const std::string& file);

}  // namespace tunas::search
