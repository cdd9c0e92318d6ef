// Weight files of a network: save_weights and load_weights of network.h.
#include <algorithm>

#include "engine/safetensors.h"
#include "kernels/error.h"
#include "search/network.h"

namespace tunas::search {

using engine::Param;

namespace {

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

void Network::save_weights(const std::string& file) const {
  std::vector<engine::StoredTensor> tensors;
  std::vector<std::vector<float>> dense;
  for (const Param& param : params_.params()) {
    dense.emplace_back(dense_size(param));
    copy_rows(param, params_.read(param).data(), dense.back().data(), Direction::to_dense);
    tensors.push_back({param.name, "F32", param.shape, dense.back().data()});
  }
  engine::write_safetensors(file, tensors, {{"space", supernet_.space().name}});
}

void Network::load_weights(const std::string& file) {
  const engine::Safetensors tensors(file);
  for (const engine::Safetensors::Entry& entry : tensors.entries()) {
    if (!params_.find(entry.name)) {
      fail(Exit::data, file, ": tensor ", entry.name, " belongs to no layer of ",
           supernet_.space().name, "; pass the architecture these weights were trained with");
    }
  }
  for (const Param& param : params_.params()) {
    std::vector<float> dense(dense_size(param));
    tensors.read(param.name, "F32", param.shape, dense.data());
    std::vector<float> stored = params_.read(param);
    copy_rows(param, stored.data(), dense.data(), Direction::to_store);
    params_.write(param, stored);
  }
}

}  // namespace tunas::search
