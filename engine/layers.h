// Layers: plain structs of weights, registered at their largest size and called at the active one.
// Names in weight files follow the paths of decisions: blocks/B/layers/L/expand/kernel.
#pragma once

#include <string>

#include "engine/ops/raw.h"
#include "engine/param.h"

namespace tunas::engine {

/// Where a layer registers its weights.
struct Registry {
  ParamStore& params;
  std::string path;      // prefix of every name, without the last slash
  bool running = false;  // keep running averages (networks trained alone)
  float epsilon = 1e-3f;
  float momentum = 0.99f;  // of the running averages

  Registry at(const std::string& name) const;
  Weight kernel(Weight sizes, Init init, int in_used = 0) const;  // path/kernel
  Weight bias(int c) const;                                       // path/bias
  NormWeight norm(int c) const;                                   // path/norm/gamma, ...
};

/// A convolution of any kind with its batch norm, or with a bias instead.
struct ConvNorm {
  Weight w, bias;
  NormWeight norm;

  static ConvNorm pointwise(const Registry& at, int out, int in);
  static ConvNorm pointwise_bias(const Registry& at, int out, int in);
  static ConvNorm depthwise(const Registry& at, int k, int c);
  /// On images: 3 channels stored as 4.
  static ConvNorm stem(const Registry& at, int k, int out);
};

/// path/reduce, path/expand.
struct SqueezeExciteWeights {
  ConvNorm reduce, expand;

  static SqueezeExciteWeights make(const Registry& at, int c, int hidden);
};

/// path/kernel, path/bias: plain normal, sigma 0.01; no L2.
ConvNorm classifier(const Registry& at, int classes, int c);

}  // namespace tunas::engine
