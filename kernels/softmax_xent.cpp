// Softmax cross-entropy on the CPU, formulas in softmax_xent.h. One image at a time: the largest
// logit is subtracted first, sums are double. dlogits holds the exponentials until they are scaled.
#include "kernels/softmax_xent.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const SoftmaxXent& args) {
  const double n = args.logits.n;
  return {n * args.classes * 8, 4 * n * args.classes + 4 * n, 8 * n + bytes_of(args.dlogits)};
}

namespace cpu {
namespace {

/// Classes ahead of the label: larger logit, or equal and lower index.
int rank_of(const float* logits, int classes, int label) {
  const float own = logits[label];
  int rank = 0;
  for (int j = 0; j < label; ++j) rank += logits[j] >= own;
  for (int j = label + 1; j < classes; ++j) rank += logits[j] > own;
  return rank;
}

void one_image(const SoftmaxXent& args, int image) {
  const int stride = args.logits.c;
  const int classes = args.classes;
  const float* x = args.logits.f32() + static_cast<long>(image) * stride;
  float* dx = args.dlogits ? args.dlogits.f32() + static_cast<long>(image) * stride : nullptr;
  const int label = args.labels[image];
  const float own = x[label];
  const int ahead = rank_of(x, classes, label);  // before dx, which may lie over x
  const float largest = *std::max_element(x, x + classes);
  double sum = 0, linear = 0;  // of exp(x - largest) and of x - largest
  for (int j = 0; j < classes; ++j) {
    const float shifted = x[j] - largest;
    const float e = std::exp(shifted);
    linear += shifted;
    sum += e;
    if (dx) dx[j] = e;
  }
  args.rank[image] = std::isnan(sum) ? classes : ahead;
  const double off = double{args.smoothing} / classes;
  const double log_sum = std::log(sum);
  // Without smoothing, a logit of minus infinity elsewhere must not turn 0*inf into NaN.
  const double others = args.smoothing > 0 ? off * linear : 0;
  const double loss = log_sum - (1 - double{args.smoothing}) * (double{own} - largest) - others;
  args.loss[image] = static_cast<float>(loss);
  if (!dx) return;
  std::fill(dx + classes, dx + stride, 0.0f);
  if (!std::isfinite(args.loss[image])) {
    std::fill(dx, dx + classes, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const double scale = 1 / (sum * args.logits.n);
  const double constant = off / args.logits.n;
  for (int j = 0; j < classes; ++j) dx[j] = static_cast<float>(dx[j] * scale - constant);
  // The label's entry from its exact exponential, since p - 1 cancels when the network is sure.
  const double p = std::exp(double{own} - largest) / sum;
  dx[label] = static_cast<float>((p - (1 - double{args.smoothing}) - off) / args.logits.n);
}

}  // namespace

void softmax_xent(CpuContext& context, const SoftmaxXent& args) {
  const Tensor& logits = args.logits;
  require(args.classes > 0, "softmax_xent: ", args.classes, " classes; at least one is needed");
  check_shape("softmax_xent", "logits", logits, logits.n, 1, 1, round_up_8(args.classes));
  if (args.dlogits) check_same_shape("softmax_xent", "dlogits", args.dlogits, logits);
  require(args.smoothing >= 0 && args.smoothing <= 1, "softmax_xent: smoothing is ", args.smoothing,
          "; it must lie in [0, 1]");
  for (int i = 0; i < logits.n; ++i) {
    if (args.labels[i] < 0 || args.labels[i] >= args.classes) {
      fail(Exit::data, "softmax_xent: label ", args.labels[i], " of image ", i, " is outside 0..",
           args.classes - 1, "; check the data's classes");
    }
  }
  parallel(context, logits.n, [&](long i, int) { one_image(args, static_cast<int>(i)); });
}

}  // namespace cpu
}  // namespace tunas::kernels
