// Weight files in this program's own names (engine/layers.h), and Model: a network trained alone
// with its parameters but without memory for passes, for programs that only move weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "search/supernet.h"

namespace tunas::search {

struct Model {
  /// `network` must have one point. `device` must outlive the model.
  Model(const engine::Device& device, const Space& network);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  engine::ParamStore params;
  Supernet supernet;
};

/// A parameter as its file has it: dense, without the padding channels of the store.
std::vector<float> read_dense(const engine::ParamStore& params, const engine::Param& param);
void write_dense(engine::ParamStore& params, const engine::Param& param,
                 const std::vector<float>& values);

/// Every parameter under its name, as float32 safetensors. Error naming the file.
void save_weights(const engine::ParamStore& params, const std::string& file,
                  const std::map<std::string, std::string>& metadata);
/// Error naming the tensor that is missing, unknown or of another shape; `network` is the name of
/// what they should be the weights of.
void load_weights(engine::ParamStore& params, const engine::Safetensors& file,
                  const std::string& network);

}  // namespace tunas::search
