// The depthwise convolution as a case of kernel_case.h: behind an expansion or not, with gradients
// deferred or not, as the problem says.
#pragma once

#include "kernels/depthwise.h"
#include "kernels/pointwise.h"
#include "tests/support/kernel_case.h"
#include "tests/support/sources.h"

namespace tunas::test {

using kernels::DepthwiseBackward;
using kernels::DepthwiseForward;

class DepthwiseCase {
 public:
  DepthwiseCase(Generator& random, const Problem& problem)
      : problem_(problem),
        in_{problem.n, problem.h, problem.w, problem.c.now},
        c_(problem.c),
        window_(window(problem)),
        out_{problem.n, window_.out_h, window_.out_w, problem.c.now},
        moments_(random.numbers() == Numbers::real),
        decay_(random.numbers() == Numbers::real ? 0.125f : 2.0f),
        expansion_(draw_expansion(random, problem)),
        source_(draw_source(random, problem, in_)),
        w_(random.tensor(long{problem.k} * problem.k * c_.now)),
        incoming_(draw_incoming(random, problem, out_)),
        grad_(draw_grad(random, problem, source_)),
        dw_(random.tensor(static_cast<long>(w_.size()))) {
    if (expansion_.w.empty()) return;
    source_.y = reference::pointwise(reference::read(expansion_.x), expansion_.w, {}, problem.e.now,
                                     c_.now);
  }

  static reference::Window window(const Problem& problem) {
    const Axis rows = pad_axis(problem.padding, problem.h, problem.k, problem.s);
    const Axis columns = pad_axis(problem.padding, problem.w, problem.k, problem.s);
    return {problem.k, problem.s, rows.before, columns.before, rows.out, columns.out};
  }

  /// What an expansion is defined by: the same problem with the x that pointwise stores.
  DepthwiseCase stored(Stream stream) const {
    const ExpansionMemory expansion(expansion_, problem_);
    const kernels::Expansion view = expansion.view();
    const Guarded x(in_.size());
    kernels::pointwise(stream, {view.x, view.w, nullptr, {}, tensor(x, in_)});
    DepthwiseCase result = *this;
    result.expansion_ = {};
    result.problem_.e = {0, 0};
    result.source_.y = x.values();
    return result;
  }

  Results forward(Stream stream) const {
    const SourceMemory x(source_);
    const ExpansionMemory expansion(expansion_, problem_);
    const StoredFilter w({1, 1}, c_, window_.k, w_);
    const Guarded y(out_.size()), mean(moments_ ? c_.now : 0), variance(moments_ ? c_.now : 0);
    DepthwiseForward args{x.view(),        w.view(),        window_.stride,
                          window_.top,     window_.left,    {mean.optional(), variance.optional()},
                          tensor(y, out_), expansion.view()};
    if (args.expansion.w) args.x.y.data = nullptr;
    kernels::depthwise(stream, args);
    Results results{{"y", y.values()}};
    if (moments_) append(results, {{"mean", mean.values()}, {"variance", variance.values()}});
    return results;
  }

  Results forward_reference() const {
    const Values y = reference::depthwise(reference::read(source_), in_, w_, window_);
    Results results{{"y", y}};
    if (moments_) {
      const reference::Moments m = reference::moments(y, c_.now);
      append(results, {{"mean", m.mean}, {"variance", m.variance}});
    }
    return results;
  }

  Results backward(Stream stream, Fusion fusion = Fusion::fused) const {
    const IncomingMemory dy(incoming_, out_);
    const SourceMemory x(source_);
    const ExpansionMemory expansion(expansion_, problem_);
    const StoredFilter w({1, 1}, c_, window_.k, w_), dw({1, 1}, c_, window_.k, dw_);
    const GradMemory dx(grad_);
    DepthwiseBackward args{dy.view(),    x.view(), w.view(),  window_.stride, window_.top,
                           window_.left, decay_,   dx.view(), dw.view(),      expansion.view()};
    compose(fusion, stream, args.x, args.dx);
    if (args.expansion.w) args.x.y.data = nullptr;
    kernels::depthwise_backward(stream, args);
    EXPECT_TRUE(dw.beyond_untouched()) << "dw was written beyond the prefix";
    Results results = dx.results();
    results.push_back({"dw", dw.prefix()});
    return results;
  }

  Results backward_reference() const {
    reference::LinearGrad linear = reference::depthwise_backward(
        reference::incoming(incoming_), reference::read(source_), in_, w_, window_);
    for (std::size_t i = 0; i < w_.size(); ++i) linear.dw[i] += dw_[i] + decay_ * w_[i];
    const reference::SourceGrad dx =
        reference::source_grad(source_, grad_.total(linear.du), grad_.mean, grad_.inv_std);
    Results results = grad_.expected(dx);
    results.push_back({"dw", linear.dw});
    return results;
  }

 private:
  Problem problem_;
  reference::Shape in_;
  Width c_;
  reference::Window window_;
  reference::Shape out_;
  bool moments_;
  float decay_;
  reference::Expansion expansion_;
  reference::Source source_;
  Values w_;
  reference::Incoming incoming_;
  GradValues grad_;
  Values dw_;
};

/// Every kernel size, stride, padding, odd and even side, with narrow, middle and full widths.
inline std::vector<Problem> every_geometry(const char* rest) {
  std::vector<Problem> result;
  for (int k : {3, 5, 7}) {
    for (int s : {1, 2}) {
      for (const char* pad : {"same", "symmetric"}) {
        for (int hw : {7, 8, 9, 13, 14, 15}) {
          result.push_back(Problem::parse("depthwise k=" + std::to_string(k) +
                                          " s=" + std::to_string(s) + " pad=" + pad +
                                          " hw=" + std::to_string(hw) + " " + rest));
        }
      }
    }
  }
  return result;
}

}  // namespace tunas::test
