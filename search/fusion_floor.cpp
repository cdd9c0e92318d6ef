#include "search/fusion_floor.h"

namespace tunas::search {
namespace {

constexpr double kImageChannels = 4;  // as stored

double elements(double channels, int resolution) { return channels * resolution * resolution; }

struct Sum {
  FusionFloor floor;

  void conv(double in, double out) {
    floor.forward += in + out;
    floor.backward += 2 * (in + out);
  }
  void residual(double size) {
    floor.forward += 2 * size;
    floor.backward += size;
  }
  void squeeze(double size) { floor.forward += size; }
};

void add(Sum& sum, const PlanLayer& p, double c_in) {
  const double in = elements(c_in, p.in_resolution);
  const double out = elements(p.c_out.now, p.out_resolution);
  switch (p.spec->kind) {
    case LayerKind::conv:
      for (std::size_t i = 0; i < p.kernels.size(); ++i) sum.conv(in, out);
      break;
    case LayerKind::separable: {
      const double between = elements(c_in, p.out_resolution);
      for (std::size_t i = 0; i < p.kernels.size(); ++i) sum.conv(in, between);
      const std::size_t projections = p.spec->shared_pointwise ? 1 : p.kernels.size();
      for (std::size_t i = 0; i < projections; ++i) sum.conv(between, out);
      break;
    }
    case LayerKind::bottleneck: {
      const double wide = elements(p.c_exp.now, p.in_resolution);
      const double filtered = elements(p.c_exp.now, p.out_resolution);
      sum.conv(in, wide);
      for (std::size_t i = 0; i < p.kernels.size(); ++i) sum.conv(wide, filtered);
      if (p.squeeze_excite > 0) sum.squeeze(filtered);
      sum.conv(filtered, out);
      break;
    }
    case LayerKind::activation:
    case LayerKind::global_pool:
    case LayerKind::endpoint:
      return;
  }
  if (p.spec->residual) sum.residual(out);
}

}  // namespace

FusionFloor fusion_floor(const Plan& plan) {
  Sum sum;
  bool first = true;
  for (const PlanLayer& layer : plan.layers) {
    if (layer.keep == 0) continue;
    add(sum, layer, first ? kImageChannels : layer.c_in.now);
    first = false;
  }
  sum.conv(plan.c_head.now, plan.classes);
  return sum.floor;
}

}  // namespace tunas::search
