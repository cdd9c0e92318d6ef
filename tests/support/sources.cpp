#include "tests/support/sources.h"

#include <cmath>
#include <utility>

#include "kernels/mix.h"

namespace tunas::test {
namespace {

Values added(const Values& contribution, const Values& before) {
  Values sum = contribution;
  for (std::size_t i = 0; i < before.size(); ++i) sum[i] += before[i];
  return sum;
}

/// Memory that holds `before`, or when there is nothing before, `size` NaNs.
Guarded output(const Values& before, long size) {
  return before.empty() ? Guarded(static_cast<std::size_t>(size)) : Guarded(before);
}

}  // namespace

void append(Results& results, const Results& more, const std::string& prefix) {
  for (const Named& named : more) results.push_back({prefix + named.name, named.values});
}

reference::Source draw_source(Generator& random, const Problem& problem, reference::Shape shape) {
  reference::Source source{shape, random.tensor(shape.size()), {}, {}, problem.act, {}};
  if (problem.norm) {
    source.scale = random.factors(shape.c);
    source.shift = random.tensor(shape.c);
  }
  if (problem.gate) source.gate = random.factors(static_cast<long>(shape.n) * shape.c);
  return source;
}

SourceMemory::SourceMemory(const reference::Source& values)
    : values_(values),
      y_(values.y),
      scale_(values.scale),
      shift_(values.shift),
      gate_(values.gate) {}

kernels::Source SourceMemory::view() const {
  return {tensor(y_, values_.shape), scale_.optional(), shift_.optional(), values_.act,
          gate_.optional()};
}

reference::Expansion draw_expansion(Generator& random, const Problem& problem) {
  if (problem.e.now == 0) return {};
  const reference::Shape shape{problem.n, problem.h, problem.w, problem.e.now};
  reference::Expansion expansion{draw_source(random, problem, shape),
                                 random.tensor(long{problem.c.now} * problem.e.now)};
  if (random.numbers() == Numbers::real) {
    for (double& w : expansion.w) w = std::floor(w) / 16;
  }
  return expansion;
}

ExpansionMemory::ExpansionMemory(const reference::Expansion& values, const Problem& problem)
    : values_(values), x_(values.x), w_(problem.c, problem.e, 1, values.w) {}

kernels::Expansion ExpansionMemory::view() const {
  if (values_.w.empty()) return {};
  return {x_.view(), w_.view()};
}

Results GradValues::expected(const reference::SourceGrad& contribution) const {
  Results results{{"dz", added(contribution.dz, dz)}};
  if (gated) {
    results.push_back({"dgate", contribution.dgate});
    if (!mean.empty()) results.push_back({"slope_sums", contribution.slope_sums});
  } else if (!mean.empty()) {
    results.push_back({"sum_dz", added(contribution.sum_dz, sum_dz)});
    results.push_back({"sum_dz_xhat", added(contribution.sum_dz_xhat, sum_dz_xhat)});
  }
  return results;
}

GradValues draw_grad(Generator& random, const Problem& problem, const reference::Source& source) {
  GradValues values{source.shape, !source.gate.empty(), {}, {}, {}, {}, {}};
  if (problem.norm && (!values.gated || problem.slopes)) {
    values.mean = random.tensor(source.shape.c);
  }
  if (problem.norm && !values.gated) {
    values.inv_std = random.factors(source.shape.c);
  }
  if (problem.addend) values.addend = random.tensor(source.shape.size());
  values.in_place = problem.addend && problem.in_place;
  if (problem.accumulate) {
    values.dz = random.tensor(source.shape.size());
    if (!values.inv_std.empty()) {
      values.sum_dz = random.tensor(source.shape.c);
      values.sum_dz_xhat = random.tensor(source.shape.c);
    }
  }
  return values;
}

Values GradValues::total(Values du) const {
  for (std::size_t i = 0; i < addend.size(); ++i) du[i] += kAddendWeight * addend[i];
  return du;
}

GradMemory::GradMemory(const GradValues& values)
    : values_(values),
      addend_(values.in_place ? Values() : values.addend),
      dz_(output(values.in_place ? values.addend : values.dz, values.shape.size())),
      mean_(values.mean),
      inv_std_(values.inv_std),
      sum_dz_(output(values.sum_dz, static_cast<long>(values.inv_std.size()))),
      sum_dz_xhat_(output(values.sum_dz_xhat, static_cast<long>(values.inv_std.size()))),
      dgate_(output({}, values.gated ? static_cast<long>(values.shape.n) * values.shape.c : 0)),
      slope_sums_(values.mean.empty() ? 0 : 2 * dgate_.size()) {}

kernels::SourceGrad GradMemory::view() const {
  const Write how = values_.dz.empty() ? Write::overwrite : Write::accumulate;
  return {tensor(dz_, values_.shape),
          how,
          mean_.optional(),
          inv_std_.optional(),
          sum_dz_.optional(),
          sum_dz_xhat_.optional(),
          dgate_.optional(),
          slope_sums_.optional(),
          {tensor(values_.in_place ? dz_ : addend_, values_.shape), GradValues::kAddendWeight}};
}

Results GradMemory::results() const {
  Results results{{"dz", dz_.values()}};
  if (addend_.size() > 0) {
    EXPECT_EQ(addend_.values(), values_.addend) << "others read the addend, too";
  }
  if (values_.gated) {
    results.push_back({"dgate", dgate_.values()});
    if (!values_.mean.empty()) results.push_back({"slope_sums", slope_sums_.values()});
  } else if (!values_.mean.empty()) {
    results.push_back({"sum_dz", sum_dz_.values()});
    results.push_back({"sum_dz_xhat", sum_dz_xhat_.values()});
  }
  return results;
}

void compose(Fusion fusion, Stream stream, const kernels::Source& x, kernels::SourceGrad& dx) {
  if (fusion == Fusion::fused) return;
  const kernels::Addend addend = std::exchange(dx.addend, {});
  kernels::mix_backward(stream, {addend.da, addend.weight, x, dx});
  dx.how = Write::accumulate;
}

reference::Incoming draw_incoming(Generator& random, reference::Shape shape, bool norm) {
  reference::Incoming dy{random.tensor(shape.size()), {}, {}, {}, {}, {}};
  if (norm) {
    dy.y = random.tensor(shape.size());
    dy.ca = random.factors(shape.c);
    dy.cb = random.tensor(shape.c);
    dy.cc = random.tensor(shape.c);
  }
  return dy;
}

reference::Incoming draw_incoming(Generator& random, const Problem& problem,
                                  reference::Shape shape) {
  reference::Incoming dy = draw_incoming(random, shape, problem.norm && !problem.bias);
  if (!problem.deferred && !problem.spread) return dy;
  dy.deferred = {2, {}, random.factors(shape.c), random.tensor(shape.c), problem.act};
  if (problem.spread) dy.deferred.spread = random.tensor(long{shape.n} * shape.c);
  if (!problem.deferred) dy.dz.clear();
  return dy;
}

IncomingMemory::IncomingMemory(const reference::Incoming& values, reference::Shape shape)
    : values_(values),
      shape_(shape),
      dz_(values.dz),
      y_(values.y),
      ca_(values.ca),
      cb_(values.cb),
      cc_(values.cc),
      spread_(values.deferred.spread),
      scale_(values.deferred.scale),
      shift_(values.deferred.shift) {}

kernels::Incoming IncomingMemory::view() const {
  const reference::Deferred& deferred = values_.deferred;
  return {tensor(dz_, shape_),
          tensor(y_, shape_),
          ca_.optional(),
          cb_.optional(),
          cc_.optional(),
          {static_cast<float>(deferred.weight), spread_.optional(), scale_.optional(),
           shift_.optional(), deferred.act}};
}

}  // namespace tunas::test
