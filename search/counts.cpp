// Parameters and multiply-adds (specification section 5): kernels at their output resolution, the
// two squeeze-and-excite layers once per image, the classifier; biases, norms, activations, pools
// and the gating product multiply nothing. Options count with their mask weights:
//
//   share = keep * sum over kernels of weight * (k-dependent part) + ... + weight_se * (SE part)
#include "search/arch.h"

namespace tunas::search {
namespace {

/// A k x k convolution (depthwise: in = 1) with its norm.
struct Normed {
  double weight;  // product of the masks
  int k, in, out, resolution;

  operator Counts() const {
    const double kernel = weight * k * k * in * out;
    return {kernel, 0, weight * 2 * out, kernel * resolution * resolution};
  }
};

Counts& operator+=(Counts& a, const Counts& b) {
  a.kernels += b.kernels;
  a.biases += b.biases;
  a.norms += b.norms;
  a.macs += b.macs;
  return a;
}

Counts conv(const PlanLayer& p) {
  Counts sum;
  for (const KernelChoice& choice : p.kernels) {
    sum += Normed{choice.weight, choice.k, p.c_in.now, p.c_out.now, p.out_resolution};
    if (!p.spec->batch_norm) {
      sum.norms = 0;
      sum.biases += choice.weight * p.c_out.now;
    }
  }
  return sum;
}

/// The pointwise convolution is one, or one per kernel size whose weights sum to 1: the same sum.
Counts separable(const PlanLayer& p) {
  Counts sum = Normed{p.keep, 1, p.c_in.now, p.c_out.now, p.out_resolution};
  for (const KernelChoice& choice : p.kernels) {
    sum += Normed{p.keep * choice.weight, choice.k, 1, p.c_in.now, p.out_resolution};
  }
  return sum;
}

Counts bottleneck(const PlanLayer& p) {
  Counts sum = Normed{p.keep, 1, p.c_in.now, p.c_exp.now, p.in_resolution};
  for (const KernelChoice& choice : p.kernels) {
    sum += Normed{p.keep * choice.weight, choice.k, 1, p.c_exp.now, p.out_resolution};
  }
  sum += Normed{p.keep, 1, p.c_exp.now, p.c_out.now, p.out_resolution};
  const double gate = p.keep * p.squeeze_excite;
  const double kernels = gate * 2 * p.c_exp.now * p.c_hidden.now;
  sum += {kernels, gate * (p.c_exp.now + p.c_hidden.now), 0, kernels};
  return sum;
}

}  // namespace

Counts count(const PlanLayer& layer) {
  switch (layer.spec->kind) {
    case LayerKind::conv:
      return conv(layer);
    case LayerKind::separable:
      return separable(layer);
    case LayerKind::bottleneck:
      return bottleneck(layer);
    case LayerKind::activation:
    case LayerKind::global_pool:
    case LayerKind::endpoint:
      break;
  }
  return {};
}

Counts count(const Plan& plan) {
  const double classifier = static_cast<double>(plan.c_head.now) * plan.classes;
  Counts sum{classifier, static_cast<double>(plan.classes), 0, classifier};
  for (const PlanLayer& layer : plan.layers) sum += count(layer);
  return sum;
}

}  // namespace tunas::search
