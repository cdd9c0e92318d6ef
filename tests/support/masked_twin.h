// The supernet as the paper describes it: every tensor at its largest width, unused channels
// multiplied by 0/1 masks (specification section 7.2), every option with a non-zero mask run and
// averaged (7.4), naive and in double. The engine's network on prefix widths must equal it in
// logits, loss and every gradient; gradients beyond a prefix are zero here.
//
// Weights are named as in weight files, at their largest sizes in the layout of the engine: dense
// [out][k][k][in] (the stem with in = 4), depthwise [k][k][c].
//   blocks/B/layers/L/ conv_K/kernel, conv_K/norm/gamma|beta or conv_K/bias       convolution
//                      depthwise_K/kernel, depthwise_K/norm/gamma|beta            per kernel size
//                      project/kernel, project/norm/gamma|beta     separable, bottleneck; project_K
//                                                                  where kernel sizes do not share
//                      expand/kernel, expand/norm/gamma|beta                      bottleneck
//                      squeeze_excite/reduce|expand/kernel|bias
//   classifier/kernel, classifier/bias
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "search/arch.h"
#include "tests/support/compare.h"

namespace tunas::test {

using Weights = std::map<std::string, Values>;

struct TwinConfig {
  Padding padding = Padding::same;
  double epsilon = 1e-3;       // of batch normalisation, always with the batch's statistics
  double weight_decay = 4e-5;  // on kernels but the classifier's, times the enclosing masks
  double smoothing = 0.1;
};

struct TwinResult {
  Values logits;      // [n][classes]
  double loss = 0;    // mean cross-entropy; L2 is in the gradients alone
  Weights gradients;  // of every weight given; of the mean loss plus L2
};

/// `images` is [n][R][R][4], R the resolution of the plan's first layer, without border. Throws
/// std::out_of_range naming a weight that is missing, std::invalid_argument for one of another
/// size.
TwinResult masked_twin(const search::Plan& plan, const Weights& weights, const Values& images,
                       const std::vector<std::int32_t>& labels, const TwinConfig& config);

}  // namespace tunas::test
