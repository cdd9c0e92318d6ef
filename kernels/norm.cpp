// Batch normalisation, the per-channel part, on the CPU. Formulas in norm.h; at most a few thousand
// channels, so a plain loop. The reciprocal root and the coefficients are rounded once, from
// double.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tunas::kernels {

Cost cost(const NormForward& args) {
  const double c = args.c;
  const double running = args.running_mean ? 2 * c : 0;
  return {7 * c + 3 * running, 4 * (4 * c + running), 4 * (3 * c + running)};
}

Cost cost(const NormBackward& args) {
  const double c = args.c;
  return {12 * c, 4 * 7 * c, 4 * 5 * c};
}

namespace cpu {

void norm(CpuContext&, const NormForward& args) {
  require(args.c > 0 && args.rows > 0, "norm: ", args.rows, " rows of ", args.c,
          " channels; both must be positive");
  require(args.epsilon > 0, "norm: epsilon is ", args.epsilon, "; it must be positive");
  bool finite = true;
  for (int i = 0; i < args.c; ++i) {
    const double inv_std = 1 / std::sqrt(double{args.variance[i]} + args.epsilon);
    const double scale = args.gamma[i] * inv_std;
    args.inv_std[i] = static_cast<float>(inv_std);
    args.scale[i] = static_cast<float>(scale);
    args.shift[i] = static_cast<float>(args.beta[i] - args.mean[i] * scale);
    if (std::isfinite(args.mean[i]) && std::isfinite(args.variance[i]) &&
        std::isfinite(args.scale[i]) && std::isfinite(args.shift[i])) {
      continue;
    }
    finite = false;
    args.scale[i] = std::numeric_limits<float>::quiet_NaN();
  }
  if (!finite && args.origin) *args.origin = std::min(*args.origin, args.position);
  if (!args.running_mean) return;
  const double rate = 1.0 - args.momentum;
  const double unbiased = static_cast<double>(args.rows) / std::max(args.rows - 1, 1L);
  for (int i = 0; i < args.c; ++i) {
    float& mean = args.running_mean[i];
    float& variance = args.running_variance[i];
    mean = static_cast<float>(mean - rate * (mean - double{args.mean[i]}));
    variance = static_cast<float>(variance - rate * (variance - unbiased * args.variance[i]));
  }
}

void norm_backward(CpuContext&, const NormBackward& args) {
  require(args.c > 0 && args.rows > 0, "norm_backward: ", args.rows, " rows of ", args.c,
          " channels; both must be positive");
  for (int i = 0; i < args.c; ++i) {
    const double scale = args.scale[i];
    const double s1 = args.sum_dz[i] / static_cast<double>(args.rows);
    const double s2 = args.sum_dz_xhat[i] / static_cast<double>(args.rows) * args.inv_std[i];
    args.ca[i] = args.scale[i];
    args.cb[i] = static_cast<float>(-scale * s2);
    args.cc[i] = static_cast<float>(-scale * s1 + scale * s2 * args.mean[i]);
    args.dgamma[i] += args.sum_dz_xhat[i];
    args.dbeta[i] += args.sum_dz[i];
  }
}

}  // namespace cpu
}  // namespace tunas::kernels
