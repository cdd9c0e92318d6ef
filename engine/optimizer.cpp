#include "engine/optimizer.h"

namespace tunas::engine {

void Optimizer::start(ParamStore& store) const {
  for (int i = 0; i < states(); ++i) {
    const bool mean_square = kind == Kind::rms_prop && i == 0;
    store.device().fill(store.state(i), store.size(), mean_square ? 1.0f : 0.0f);
  }
}

void Optimizer::update(ParamStore& store, double rate, int shards,
                       const kernels::Verdict* verdict) const {
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
    args.shadow = store.shadow();
    args.verdict = verdict;
    kernels::rms_prop(store.device().stream(), args);
  } else {
    kernels::Sgd args;
    args.size = store.size();
    args.grad = store.grads();
    args.w = store.masters();
    args.mom = store.state(0);
    args.scale = scale;
    args.rate = static_cast<float>(rate);
    args.momentum = momentum;
    args.weight_decay = weight_decay;
    args.shadow = store.shadow();
    args.verdict = verdict;
    kernels::sgd(store.device().stream(), args);
  }
}

}  // namespace tunas::engine
