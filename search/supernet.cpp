#include "search/supernet.h"

#include <algorithm>

#include "engine/ops/conv.h"
#include "engine/ops/depthwise.h"
#include "engine/ops/dropout.h"
#include "engine/ops/mix.h"
#include "engine/ops/pointwise.h"
#include "engine/ops/pool.h"
#include "engine/ops/squeeze_excite.h"
#include "kernels/error.h"

namespace tunas::search {

using engine::ConvNorm;
using engine::Raw;
using engine::Tape;
using engine::Term;
using engine::Var;

Supernet::Supernet(const Space& space, engine::ParamStore& params, const SupernetConfig& config)
    : space_(space), config_(config) {
  const Plan largest = plan(Arch::largest(space_));
  require(!largest.layers.empty() && largest.layers[0].spec->kind == LayerKind::conv &&
              largest.layers[0].keep == 1,
          "space ", space.name, ": the first layer must be a convolution that cannot be skipped");
  for (const int k : largest.layers[0].spec->kernels) {
    const Axis axis = pad_axis(space.padding, config.resolution, k, largest.layers[0].spec->stride);
    border_ = std::max({border_, axis.before, axis.after});
  }
  const engine::Registry root{params, "", config.running_averages,
                              static_cast<float>(space.bn_epsilon), config.momentum};
  bool pooled = false;
  for (const PlanLayer& layer : largest.layers) {
    engine::Registry at = root;
    at.path = "blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer);
    require(layer.spec->kind != LayerKind::conv || &layer == &largest.layers[0] ||
                layer.spec->kernels == std::vector<int>{1},
            "space ", space.name, ": ", at.path,
            " is a k x k convolution; only the first layer may be one");
    layers_.push_back(make(at, layer));
    pooled = pooled || layer.spec->kind == LayerKind::global_pool;
  }
  require(pooled, "space ", space.name, ": no layer is a global_pool; the classifier needs one");
  engine::Registry at = root;
  at.path = "classifier";
  classifier_begin_ = params.size();
  classifier_ = engine::classifier(at, space.classes, largest.c_head.max);
}

Supernet::LayerWeights Supernet::make(const engine::Registry& at, const PlanLayer& layer) const {
  const Layer& spec = *layer.spec;
  LayerWeights weights;
  weights.path = at.path;
  weights.begin = at.params.size();
  const auto suffixed = [&at](const char* name, int k) {
    return at.at(std::string(name) + "_" + std::to_string(k));
  };
  switch (spec.kind) {
    case LayerKind::conv:
      for (const int k : spec.kernels) {
        const engine::Registry here = suffixed("conv", k);
        const int in = layer.c_in.max;
        weights.kernels.push_back(layers_.empty() ? ConvNorm::stem(here, k, layer.c_out.max)
                                  : spec.batch_norm
                                      ? ConvNorm::pointwise(here, layer.c_out.max, in)
                                      : ConvNorm::pointwise_bias(here, layer.c_out.max, in));
      }
      break;
    case LayerKind::separable:
      for (const int k : spec.kernels) {
        weights.kernels.push_back(ConvNorm::depthwise(suffixed("depthwise", k), k, layer.c_in.max));
        if (!spec.shared_pointwise) {
          weights.project.push_back(
              ConvNorm::pointwise(suffixed("project", k), layer.c_out.max, layer.c_in.max));
        }
      }
      if (spec.shared_pointwise) {
        weights.project.push_back(
            ConvNorm::pointwise(at.at("project"), layer.c_out.max, layer.c_in.max));
      }
      break;
    case LayerKind::bottleneck:
      weights.expand = ConvNorm::pointwise(at.at("expand"), layer.c_exp.max, layer.c_in.max);
      for (const int k : spec.kernels) {
        weights.kernels.push_back(
            ConvNorm::depthwise(suffixed("depthwise", k), k, layer.c_exp.max));
      }
      if (layer.c_hidden.max > 0) {
        weights.squeeze_excite = engine::SqueezeExciteWeights::make(
            at.at("squeeze_excite"), layer.c_exp.max, layer.c_hidden.max);
      }
      weights.project.push_back(
          ConvNorm::pointwise(at.at("project"), layer.c_out.max, layer.c_exp.max));
      break;
    case LayerKind::activation:
    case LayerKind::global_pool:
    case LayerKind::endpoint:
      break;
  }
  return weights;
}

namespace {

/// What is recorded from here on makes the gradients from `offset` on; in backward it is then done.
void mark_done(Tape& tape, std::size_t offset) {
  if (tape.stream().kind == Kind::dry) return;  // makes none
  tape.push([offset](Tape& done) { done.params().passed(offset); });
}

}  // namespace

Raw Supernet::forward(Tape& tape, const engine::Inputs& inputs, const Plan& plan) const {
  const Var image = images(tape, inputs);
  const int first = tape.mark();
  Raw x = stem(tape, image, plan.layers[0], layers_[0]);
  for (std::size_t i = 1; i < plan.layers.size(); ++i) {
    mark_done(tape, layers_[i].begin);
    if (plan.layers[i].keep == 0) continue;
    x = layer(tape, x, plan.layers[i], layers_[i]);
    tape.release(first, {x.y, x.norm, x.gate});
  }
  mark_done(tape, classifier_begin_);
  const Tape::Layer here(tape, "classifier");
  x = engine::dropout(tape, x, config_.dropout, inputs.key);
  engine::Pointwise op{classifier_.w, plan.classes, classifier_.bias, {}};
  op.output = engine::Pointwise::Output::logits;
  return engine::pointwise(tape, x, op);
}

Var Supernet::images(Tape& tape, const engine::Inputs& inputs) const {
  const Tape::Layer here(tape, "images");
  return engine::image(tape, inputs, {config_.resolution, border_, config_.preprocess});
}

Raw Supernet::stem(Tape& tape, Var image, const PlanLayer& layer,
                   const LayerWeights& weights) const {
  const Tape::Layer here(tape, weights.path.c_str());
  Term options[3];
  std::size_t count = 0;
  for (const KernelChoice& choice : layer.kernels) {
    const ConvNorm& w = weights.kernels[static_cast<std::size_t>(choice.option)];
    const int stride = layer.spec->stride;
    const Axis axis = pad_axis(space_.padding, layer.in_resolution, choice.k, stride);
    const float mask = static_cast<float>(choice.weight);
    options[count++] = {mask, engine::conv(tape, image,
                                           {w.w, layer.c_out.now, stride, axis, border_, w.norm,
                                            config_.weight_decay * mask})};
  }
  return engine::combine(tape, {options, count});
}

Raw Supernet::layer(Tape& tape, const Raw& x, const PlanLayer& layer,
                    const LayerWeights& weights) const {
  const Tape::Layer here(tape, weights.path.c_str());
  Raw y = x;
  switch (layer.spec->kind) {
    case LayerKind::activation:
      require(x.act == Act::none, "two activations follow each other; the space has one too many");
      y.act = layer.spec->act;
      return y;
    case LayerKind::global_pool:
      return engine::pool(tape, x);
    case LayerKind::endpoint:
      return x;
    case LayerKind::conv:
      y = conv(tape, x, layer, weights);
      break;
    case LayerKind::separable:
      y = separable(tape, x, layer, weights);
      break;
    case LayerKind::bottleneck:
      y = bottleneck(tape, x, layer, weights);
      break;
  }
  if (!layer.spec->residual) return y;
  const Term sum[] = {{static_cast<float>(layer.keep), y}, {1, x}};
  return engine::mix(tape, sum);
}

Raw Supernet::conv(Tape& tape, const Raw& x, const PlanLayer& layer,
                   const LayerWeights& weights) const {
  const ConvNorm& w = weights.kernels[0];
  return engine::pointwise(tape, x,
                           {w.w, layer.c_out.now, w.bias, w.norm, Act::none,
                            config_.weight_decay * static_cast<float>(layer.keep)});
}

Raw Supernet::depthwise(Tape& tape, const Raw& x, const PlanLayer& layer,
                        const LayerWeights& weights, std::size_t choice) const {
  const KernelChoice& kernel = layer.kernels[choice];
  const ConvNorm& w = weights.kernels[static_cast<std::size_t>(kernel.option)];
  const double mask = layer.keep * kernel.weight;
  return engine::depthwise(tape, x,
                           {w.w, layer.spec->stride, space_.padding, w.norm, layer.spec->act,
                            config_.weight_decay * static_cast<float>(mask)});
}

Raw Supernet::project(Tape& tape, const Raw& x, const PlanLayer& layer, const ConvNorm& weights,
                      double mask) const {
  return engine::pointwise(tape, x,
                           {weights.w,
                            layer.c_out.now,
                            {},
                            weights.norm,
                            Act::none,
                            config_.weight_decay * static_cast<float>(mask)});
}

Raw Supernet::separable(Tape& tape, const Raw& x, const PlanLayer& layer,
                        const LayerWeights& weights) const {
  Term options[3];
  std::size_t count = 0;
  for (; count < layer.kernels.size(); ++count) {
    const KernelChoice& kernel = layer.kernels[count];
    Raw y = depthwise(tape, x, layer, weights, count);
    if (!layer.spec->shared_pointwise) {
      y = project(tape, y, layer, weights.project[static_cast<std::size_t>(kernel.option)],
                  layer.keep * kernel.weight);
    }
    options[count] = {static_cast<float>(kernel.weight), y};
  }
  const Raw y = engine::combine(tape, {options, count});
  return layer.spec->shared_pointwise ? project(tape, y, layer, weights.project[0], layer.keep) : y;
}

Raw Supernet::bottleneck(Tape& tape, const Raw& x, const PlanLayer& layer,
                         const LayerWeights& weights) const {
  const float decay = config_.weight_decay * static_cast<float>(layer.keep);
  const Raw expanded = engine::pointwise(
      tape, x,
      {weights.expand.w, layer.c_exp.now, {}, weights.expand.norm, layer.spec->act, decay});
  Term options[3];
  std::size_t count = 0;
  for (; count < layer.kernels.size(); ++count) {
    options[count] = {static_cast<float>(layer.kernels[count].weight),
                      depthwise(tape, expanded, layer, weights, count)};
  }
  Raw y = engine::combine(tape, {options, count});
  if (layer.squeeze_excite > 0) {
    const engine::SqueezeExciteWeights& se = weights.squeeze_excite;
    const float on = static_cast<float>(layer.squeeze_excite);
    y = engine::squeeze_excite(tape, y,
                               {se.reduce.w, se.reduce.bias, se.expand.w, se.expand.bias,
                                layer.c_hidden.now, layer.spec->gate, 1 - on, on, decay * on});
  }
  return project(tape, y, layer, weights.project[0], layer.keep);
}

}  // namespace tunas::search
