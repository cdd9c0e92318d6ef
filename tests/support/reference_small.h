// The parts of the reference (reference.h) that work per channel, per image or per parameter:
// normalisation, gate, spread, dropout, loss, optimizers.
#pragma once

#include <cstdint>

#include "kernels/philox.h"
#include "tests/support/reference.h"

namespace tunas::test::reference {

struct Norm {
  Values inv_std, scale, shift;
};
Norm norm(const Values& gamma, const Values& beta, const Moments& moments, double epsilon);
/// running - (1-momentum)*(running - batch), the variance with N/(N-1)
Moments running(const Moments& before, const Moments& batch, double momentum, long rows);

struct NormGrad {
  Values ca, cb, cc;
};
NormGrad norm_backward(const Norm& norm, const Values& mean, const SourceGrad& grad, long rows);

/// off + on*kind(x) and its gradient dx
Values gate(const Values& x, Act kind, double off, double on);
Values gate_backward(const Values& x, Act kind, double on, const Values& dgate);

struct Spread {
  Values spread, sum_dz, sum_dz_xhat;
};
/// `gated` may be empty.
Spread spread(const Values& dy, int pixels, const Values& slopes, const Values& gated,
              const Values& inv_std);

/// 0 or 1/(1-rate) per element.
Values dropout_mask(long size, double rate, const PhiloxKey& key);

struct Loss {
  Values loss, rank, dlogits;  // [n], [n], [n][classes]
};
Loss softmax_xent(const Values& logits, int classes, const std::vector<std::int32_t>& labels,
                  double smoothing);

struct RmsPropState {
  Values w, ms, mom;
};
void rms_prop(RmsPropState& state, const Values& grad, double rate, double decay, double momentum,
              double epsilon);
void sgd(Values& w, Values& mom, const Values& grad, double rate, double momentum,
         double weight_decay);

}  // namespace tunas::test::reference
