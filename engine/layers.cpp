#include "engine/layers.h"

namespace tunas::engine {

Registry Registry::at(const std::string& name) const {
  Registry inner = *this;
  inner.path += "/" + name;
  return inner;
}

Weight Registry::kernel(Weight sizes, Init init, int in_used) const {
  return params.add(path + "/kernel", sizes, init, in_used);
}

Weight Registry::bias(int c) const {
  return params.add(path + "/bias", {-1, 1, 1, c}, {Init::Kind::constant, 0.0});
}

NormWeight Registry::norm(int c) const {
  NormWeight norm;
  norm.epsilon = epsilon;
  norm.momentum = momentum;
  norm.gamma = params.add(path + "/norm/gamma", {-1, 1, 1, c}, {Init::Kind::constant, 1.0});
  norm.beta = params.add(path + "/norm/beta", {-1, 1, 1, c}, {Init::Kind::constant, 0.0});
  if (running) {
    const Weight average{-1, 1, 1, c, true};
    norm.mean = params.add(path + "/norm/mean", average, {Init::Kind::constant, 0.0});
    norm.variance = params.add(path + "/norm/variance", average, {Init::Kind::constant, 1.0});
  }
  return norm;
}

ConvNorm ConvNorm::pointwise(const Registry& at, int out, int in) {
  return {at.kernel({-1, out, 1, in}, Init::he(in)), {}, at.norm(out)};
}

ConvNorm ConvNorm::pointwise_bias(const Registry& at, int out, int in) {
  return {at.kernel({-1, out, 1, in}, Init::he(in)), at.bias(out), {}};
}

ConvNorm ConvNorm::depthwise(const Registry& at, int k, int c) {
  return {at.kernel({-1, 1, k, c}, Init::he(k * k)), {}, at.norm(c)};
}

ConvNorm ConvNorm::stem(const Registry& at, int k, int out) {
  return {at.kernel({-1, out, k, 4}, Init::he(k * k * 3), 3), {}, at.norm(out)};
}

SqueezeExciteWeights SqueezeExciteWeights::make(const Registry& at, int c, int hidden) {
  return {ConvNorm::pointwise_bias(at.at("reduce"), hidden, c),
          ConvNorm::pointwise_bias(at.at("expand"), c, hidden)};
}

ConvNorm classifier(const Registry& at, int classes, int c) {
  return {at.kernel({-1, classes, 1, c}, {Init::Kind::normal, 0.01}), at.bias(classes), {}};
}

}  // namespace tunas::engine
