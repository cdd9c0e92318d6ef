#include "engine/optimizer.h"

#include <algorithm>

#include "kernels/update.h"

namespace tunas::engine {

void Optimizer::start(ParamStore& store) const {
  for (int i = 0; i < states(); ++i) {
    const bool mean_square = kind == Kind::rms_prop && i == 0;
    std::fill_n(store.state(i), store.size(), mean_square ? 1.0f : 0.0f);
  }
}

void Optimizer::update(ParamStore& store, const Device& device, double rate, int shards) const {
  const float scale = 1.0f / static_cast<float>(shards);
  if (kind == Kind::rms_prop) {
    kernels::RmsProp args;
    args.size = store.size();
    args.grad = store.grads();
    args.w = store.masters();
    args.ms = store.state(0);
    args.mom = store.state(1);
    args.scale = scale;
    args.rate = static_cast<float>(rate);
    args.decay = decay;
    args.momentum = momentum;
    args.epsilon = epsilon;
    kernels::rms_prop(device.stream(), args);
  } else {
    kernels::Sgd args;
    args.size = store.size();
    args.grad = store.grads();
    args.w = store.masters();
    args.mom = store.state(0);
    args.scale = scale;
    args.rate = static_cast<float>(rate);
    args.momentum = momentum;
    kernels::sgd(device.stream(), args);
  }
}

}  // namespace tunas::engine
