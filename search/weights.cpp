#include "search/weights.h"

#include <algorithm>

#include "kernels/error.h"
#include "search/network.h"

namespace tunas::search {

using engine::Param;
using engine::ParamStore;

namespace {

SupernetConfig trained_alone(const Space& network) {
  SupernetConfig config;
  config.resolution = network.resolution;
  config.running_averages = true;
  return config;
}

/// Copies between the store, whose rows may have padding channels, and a dense array.
enum class Direction : unsigned char { to_dense, to_store };
void copy_rows(const Param& param, float* stored, float* dense, Direction direction) {
  const auto in = static_cast<std::size_t>(param.weight.in);
  const auto used = static_cast<std::size_t>(param.shape.back());
  for (std::size_t row = 0; row < param.stored() / in; ++row) {
    float* a = stored + row * in;
    float* b = dense + row * used;
    if (direction == Direction::to_dense) {
      std::copy_n(a, used, b);
    } else {
      std::copy_n(b, used, a);
    }
  }
}

std::size_t dense_size(const Param& param) {
  return param.stored() / static_cast<std::size_t>(param.weight.in) *
         static_cast<std::size_t>(param.shape.back());
}

}  // namespace

Model::Model(const engine::Device& device, const Space& network)
    : supernet(network, params, trained_alone(network)) {
  for (const Decision& decision : network.decisions) {
    require(decision.options.size() == 1, "space ", network.name, " leaves ", decision.path,
            " open; choose an architecture of it");
  }
  params.allocate(device, 1, 0);
}

std::vector<float> read_dense(const ParamStore& params, const Param& param) {
  std::vector<float> dense(dense_size(param));
  copy_rows(param, params.read(param).data(), dense.data(), Direction::to_dense);
  return dense;
}

void write_dense(ParamStore& params, const Param& param, const std::vector<float>& values) {
  require(values.size() == dense_size(param), "parameter ", param.name, " has ", dense_size(param),
          " values, not ", values.size());
  std::vector<float> stored = params.read(param);
  std::vector<float> dense = values;
  copy_rows(param, stored.data(), dense.data(), Direction::to_store);
  params.write(param, stored);
}

void save_weights(const ParamStore& params, const std::string& file,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<engine::StoredTensor> tensors;
  std::vector<std::vector<float>> dense;
  for (const Param& param : params.params()) {
    dense.push_back(read_dense(params, param));
    tensors.push_back({param.name, "F32", param.shape, dense.back().data()});
  }
  engine::write_safetensors(file, tensors, metadata);
}

void load_weights(ParamStore& params, const engine::Safetensors& file, const std::string& network) {
  for (const engine::Safetensors::Entry& entry : file.entries()) {
    if (!params.find(entry.name)) {
      fail(Exit::data, file.path(), ": tensor ", entry.name, " belongs to no layer of ", network,
           "; pass the architecture these weights were trained with");
    }
  }
  for (const Param& param : params.params()) {
    std::vector<float> dense(dense_size(param));
    file.read(param.name, "F32", param.shape, dense.data());
    write_dense(params, param, dense);
  }
}

void Network::save_weights(const std::string& file) const {
  search::save_weights(params_, file, {{"space", supernet_.space().name}});
}

void Network::load_weights(const std::string& file) {
  search::load_weights(params_, engine::Safetensors(file), supernet_.space().name);
}

}  // namespace tunas::search
