#include "tests/support/reference_small.h"

#include <algorithm>
#include <cmath>

namespace tunas::test::reference {

Norm norm(const Values& gamma, const Values& beta, const Moments& moments, double epsilon) {
  Norm result;
  for (std::size_t c = 0; c < gamma.size(); ++c) {
    const double inv_std = 1 / std::sqrt(moments.variance[c] + epsilon);
    result.inv_std.push_back(inv_std);
    result.scale.push_back(gamma[c] * inv_std);
    result.shift.push_back(beta[c] - moments.mean[c] * gamma[c] * inv_std);
  }
  return result;
}

Moments running(const Moments& before, const Moments& batch, double momentum, long rows) {
  const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  Moments after;
  for (std::size_t c = 0; c < before.mean.size(); ++c) {
    after.mean.push_back(momentum * before.mean[c] + (1 - momentum) * batch.mean[c]);
    after.variance.push_back(momentum * before.variance[c] +
                             (1 - momentum) * unbiased * batch.variance[c]);
  }
  return after;
}

NormGrad norm_backward(const Norm& norm, const Values& mean, const SourceGrad& grad, long rows) {
  const auto n = static_cast<double>(rows);
  NormGrad result;
  for (std::size_t c = 0; c < mean.size(); ++c) {
    const double scale = norm.scale[c];
    const double slope = scale * norm.inv_std[c] * grad.sum_dz_xhat[c] / n;
    result.ca.push_back(scale);
    result.cb.push_back(-slope);
    result.cc.push_back(-scale * grad.sum_dz[c] / n + slope * mean[c]);
  }
  return result;
}

Values gate(const Values& x, Act kind, double off, double on) {
  Values result;
  for (double value : x) result.push_back(off + on * activate(kind, value));
  return result;
}

Values gate_backward(const Values& x, Act kind, double on, const Values& dgate) {
  Values dx;
  for (std::size_t i = 0; i < x.size(); ++i) {
    dx.push_back(on * activate_grad(kind, x[i]) * dgate[i]);
  }
  return dx;
}

Values slope_sums(const Source& x, const Values& da, const Values& mean) {
  const Values z = normalised(x);
  const auto c = static_cast<std::size_t>(x.shape.c), size = x.shape.n * c;
  Values sums(2 * size, 0.0);
  for (std::size_t i = 0; i < z.size(); ++i) {
    const std::size_t at = i / (z.size() / x.shape.n) * c + i % c;
    const double dz = (da.empty() ? 1 : da[i]) * activate_grad(x.act, z[i]);
    sums[at] += dz;
    sums[size + at] += dz * (x.y[i] - mean[i % c]);
  }
  return sums;
}

Spread spread(const Values& dy, int pixels, const Values& slopes, const Values& gated,
              const Values& inv_std) {
  const std::size_t c = inv_std.size();
  Spread result{{}, Values(c, 0.0), Values(c, 0.0)};
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const double share = dy[i] / pixels;
    result.spread.push_back(share);
    result.sum_dz[i % c] += share * slopes[i] + (gated.empty() ? 0 : gated[i]);
    const double centred =
        share * slopes[dy.size() + i] + (gated.empty() ? 0 : gated[dy.size() + i]);
    result.sum_dz_xhat[i % c] += inv_std[i % c] * centred;
  }
  return result;
}

Values dropout_mask(long size, double rate, const PhiloxKey& key) {
  Values mask;
  for (long i = 0; i < size; ++i) {
    const float draw = uniform_float(philox(key, static_cast<std::uint64_t>(i / 4)).v[i % 4]);
    mask.push_back(draw >= rate ? 1 / (1 - rate) : 0);
  }
  return mask;
}

Loss softmax_xent(const Values& logits, int classes, const std::vector<std::int32_t>& labels,
                  double smoothing) {
  Loss result;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    const double* x = logits.data() + n * classes;
    const double largest = *std::max_element(x, x + classes);
    double sum = 0;
    for (int j = 0; j < classes; ++j) sum += std::exp(x[j] - largest);
    double loss = 0;
    int rank = 0;
    for (int j = 0; j < classes; ++j) {
      const double log_p = x[j] - largest - std::log(sum);
      const double target = (1 - smoothing) * (j == labels[n]) + smoothing / classes;
      loss -= target > 0 ? target * log_p : 0;
      rank += x[j] > x[labels[n]] || (x[j] == x[labels[n]] && j < labels[n]);
      result.dlogits.push_back((std::exp(log_p) - target) / static_cast<double>(labels.size()));
    }
    result.loss.push_back(loss);
    result.rank.push_back(rank);
  }
  return result;
}

void rms_prop(RmsPropState& state, const Values& grad, double rate, double decay, double momentum,
              double epsilon) {
  for (std::size_t i = 0; i < grad.size(); ++i) {
    state.ms[i] = decay * state.ms[i] + (1 - decay) * grad[i] * grad[i];
    state.mom[i] = momentum * state.mom[i] + rate * grad[i] / std::sqrt(state.ms[i] + epsilon);
    state.w[i] -= state.mom[i];
  }
}

void sgd(Values& w, Values& mom, const Values& grad, double rate, double momentum,
         double weight_decay) {
  for (std::size_t i = 0; i < grad.size(); ++i) {
    mom[i] = momentum * mom[i] + grad[i] + weight_decay * w[i];
    w[i] -= rate * mom[i];
  }
}

}  // namespace tunas::test::reference
