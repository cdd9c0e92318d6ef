#include "search/fusion_floor.h"

namespace tunas::search {
namespace {

constexpr double kImageChannels = 4;  // as stored

double elements(double channels, int resolution) { return channels * resolution * resolution; }

enum class After : unsigned char { nothing, norm, norm_and_activation };

struct Sum {
  LayerMoves& to;

  void conv(double in, double out, After after) {
    to.floor += {in + out, 2 * (in + out)};
    switch (after) {
      case After::nothing:
        to.composed += {in + out, 2 * (in + out)};
        return;
      case After::norm:
        to.composed += {in + 4 * out, 2 * in + 7 * out};
        return;
      case After::norm_and_activation:
        to.composed += {in + 6 * out, 2 * in + 10 * out};
        return;
    }
  }
  void average(std::size_t options, double size) {
    if (options < 2) return;
    const auto k = static_cast<double>(options);
    to.composed += {(k + 1) * size, 2 * k * size};
  }
  void residual(double size) {
    to.floor += {2 * size, size};
    to.composed += {3 * size, 3 * size};
  }
  void squeeze(double size) {
    to.floor += {size, 0};
    to.composed += {3 * size, 8 * size};
  }
};

void add(Sum& sum, const PlanLayer& p, double c_in, After conv) {
  const double in = elements(c_in, p.in_resolution);
  const double out = elements(p.c_out.now, p.out_resolution);
  const std::size_t options = p.kernels.size();
  switch (p.spec->kind) {
    case LayerKind::conv:
      for (std::size_t i = 0; i < options; ++i) sum.conv(in, out, conv);
      sum.average(options, out);
      break;
    case LayerKind::separable: {
      const double between = elements(c_in, p.out_resolution);
      for (std::size_t i = 0; i < options; ++i) {
        sum.conv(in, between, After::norm_and_activation);
      }
      const std::size_t projections = p.spec->shared_pointwise ? 1 : options;
      for (std::size_t i = 0; i < projections; ++i) sum.conv(between, out, After::norm);
      sum.average(options, p.spec->shared_pointwise ? between : out);
      break;
    }
    case LayerKind::bottleneck: {
      const double wide = elements(p.c_exp.now, p.in_resolution);
      const double filtered = elements(p.c_exp.now, p.out_resolution);
      sum.conv(in, wide, After::norm_and_activation);
      for (std::size_t i = 0; i < options; ++i) {
        sum.conv(wide, filtered, After::norm_and_activation);
      }
      sum.average(options, filtered);
      if (p.squeeze_excite > 0) sum.squeeze(filtered);
      sum.conv(filtered, out, After::norm);
      break;
    }
    case LayerKind::global_pool:
      sum.to.composed += {in, in};
      return;
    case LayerKind::activation:
    case LayerKind::endpoint:
      return;
  }
  if (p.spec->residual) sum.residual(out);
}

}  // namespace

std::vector<LayerMoves> layer_moves(const Plan& plan) {
  std::vector<LayerMoves> all;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlanLayer& layer = plan.layers[i];
    const LayerKind kind = layer.spec->kind;
    if (layer.keep == 0 || kind == LayerKind::activation || kind == LayerKind::endpoint) continue;
    // The activation of a convolution is a layer of its own in the spaces.
    const bool activated =
        i + 1 < plan.layers.size() && plan.layers[i + 1].spec->kind == LayerKind::activation;
    const After conv = !layer.spec->batch_norm ? After::nothing
                       : activated             ? After::norm_and_activation
                                               : After::norm;
    const bool first = all.empty();
    all.push_back(
        {"blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer),
         {},
         {}});
    Sum sum{all.back()};
    add(sum, layer, first ? kImageChannels : layer.c_in.now, conv);
  }
  all.push_back({"classifier", {}, {}});
  Sum{all.back()}.conv(plan.c_head.now, plan.classes, After::nothing);
  return all;
}

Moved fusion_floor(const Plan& plan) {
  Moved floor;
  for (const LayerMoves& layer : layer_moves(plan)) floor += layer.floor;
  return floor;
}

}  // namespace tunas::search
