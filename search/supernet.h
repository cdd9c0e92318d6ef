// Supernet: the network, written once. It owns the weights of every option of a Space at their
// largest sizes and runs any Plan of it; a network trained alone is a Space with one point.
// Sharing is as in specification section 7.1: positions share nothing; within a bottleneck the
// pointwise convolutions serve all kernel sizes, each kernel size has its own depthwise weights
// and norm.
#pragma once

#include <string>
#include <vector>

#include "engine/layers.h"
#include "engine/ops/image.h"
#include "search/arch.h"

namespace tunas::search {

struct SupernetConfig {
  int resolution = 224;
  Preprocess preprocess;
  bool running_averages = false;  // networks trained alone
  float momentum = 0.99f;         // of the running averages
  float weight_decay = 4e-5f;
  float dropout = 0;
};

class Supernet {
 public:
  /// Registers the weights. Error where the space is not one this network can be: its first layer
  /// must be the only k x k convolution, and a global pool must precede the classifier.
  Supernet(const Space& space, engine::ParamStore& params, const SupernetConfig& config);

  /// Logits [n][1][1][round_up_8(classes)] of a batch under `plan` (made by `plan()`).
  engine::Raw forward(engine::Tape& tape, const engine::Inputs& inputs, const Plan& plan) const;

  Plan plan(const Arch& arch) const { return resolve(space_, arch, config_.resolution); }
  const Space& space() const { return space_; }
  const SupernetConfig& config() const { return config_; }

 private:
  struct LayerWeights {
    std::string path;                       // of the layer, as in the names of its weights
    std::size_t begin = 0;                  // of its weights in the store; the next layer's follow
    engine::ConvNorm expand;                // bottleneck
    std::vector<engine::ConvNorm> kernels;  // per kernel option: depthwise, or the convolution
    engine::SqueezeExciteWeights squeeze_excite;
    std::vector<engine::ConvNorm> project;  // one, or one per kernel option (not shared)
  };
  LayerWeights make(const engine::Registry& at, const PlanLayer& layer) const;

  engine::Var images(engine::Tape& tape, const engine::Inputs& inputs) const;
  engine::Raw stem(engine::Tape& tape, engine::Var image, const PlanLayer& layer,
                   const LayerWeights& weights) const;
  engine::Raw layer(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                    const LayerWeights& weights) const;
  engine::Raw conv(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                   const LayerWeights& weights) const;
  engine::Raw separable(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                        const LayerWeights& weights) const;
  engine::Raw bottleneck(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                         const LayerWeights& weights) const;
  engine::Raw depthwise(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                        const LayerWeights& weights, std::size_t choice) const;
  engine::Raw project(engine::Tape& tape, const engine::Raw& x, const PlanLayer& layer,
                      const engine::ConvNorm& weights, double mask) const;

  Space space_;
  SupernetConfig config_;
  int border_ = 0;
  std::vector<LayerWeights> layers_;  // in the order of Plan::layers
  engine::ConvNorm classifier_;
  std::size_t classifier_begin_ = 0;
};

}  // namespace tunas::search
