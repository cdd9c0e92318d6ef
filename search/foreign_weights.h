// Weights of other programs, read into our parameters and written from them. Layouts:
//
//                 PyTorch          ours (as in our files)
//   first conv    [o][3][k][k]     [o][k][k][3]
//   depthwise     [c][1][k][k]     [k][k][c]
//   1 x 1         [o][i][1][1]     [o][1][1][i]     (Linear: [o][i])
//   batch norm    weight, bias, running_mean, running_var: gamma, beta, mean, variance
//
// A batch norm without weight and bias has gamma 1 and beta 0. Where a convolution has a bias
// beside its batch norm, the bias is taken off the mean; where it has one and no batch norm (folded
// weights), the norm is made neutral: gamma 1, beta the bias, mean 0, variance 1 - epsilon. A
// missing bias of a layer that has one here is 0 (once-for-all). num_batches_tracked is passed
// over.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "search/foreign_names.h"
#include "search/network.h"
#include "search/weights.h"

namespace tunas::search {

struct WeightsReport {
  Scheme scheme = Scheme::own;
  int read = 0;                      // tensors that went into a parameter
  std::vector<std::string> ignored;  // known and not needed: num_batches_tracked
  std::vector<std::string> assumed;  // "features.0.1: no scale and shift, taken as 1 and 0"
};

/// Reads weights under any of the names that are known. `network` (one point) is the space that the
/// parameters were registered for; see `fitted`. Error(Exit::data) naming all tensors that are
/// missing, that belong to no layer, or that have another shape; Error(Exit::numeric) where a
/// number is not finite.
WeightsReport load_weights_any(engine::ParamStore& params, const Space& network,
                               const std::string& file);
WeightsReport load_weights_any(Network& network, const std::string& file);

/// The network of torchvision that has this shape (mobilenet_v2, mobilenet_v3_large, mnasnet1_0),
/// whatever its activations and padding.
std::optional<Scheme> torchvision_scheme(const Space& network);

/// Writes them under the names of `scheme`, with num_batches_tracked, so that load_state_dict takes
/// them; what was read from such a file comes out bit for bit. Error(Exit::usage) where the other
/// program has no such network.
void save_foreign_weights(const engine::ParamStore& params, const Space& network, Scheme scheme,
                          const std::string& file,
                          const std::map<std::string, std::string>& metadata);

}  // namespace tunas::search
