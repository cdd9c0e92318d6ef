// Ten float rows of c channels carry one batch normalisation through a step:
//   mean, variance, inv_std, scale, shift | S1, S2 (sums of readers) | ca, cb, cc (kernels/norm.h)
#include "kernels/norm.h"

#include "engine/ops/raw.h"
#include "kernels/mix.h"
#include "kernels/pointwise.h"

namespace tunas::engine {
namespace {

enum Row { kMean, kVariance, kInvStd, kScale, kShift, kSumDz, kSumDzXhat, kCa, kCb, kCc, kRows };

float* row(const Tape& tape, Var rows, Row r) {
  const Tensor t = tape.value(rows);
  return t.f32() + static_cast<long>(r) * t.c;
}

/// The batch's own statistics, except where running averages exist and are asked for.
bool uses_running(const Tape& tape, const NormWeight& norm) {
  return norm.keeps_running() && tape.pass() == Pass::evaluate;
}

bool left_to_reader(const Tape& tape, const Raw& x) {
  const Tape::Deferral* left = tape.deferral(x.y);
  return left && left->to == Tape::Deferral::To::next_reader;
}

/// The gradient of a reader that takes what was left to it.
kernels::SourceGrad with_addend(Tape& tape, const Raw& x) {
  kernels::SourceGrad g = norm_sums(tape, x);
  g.addend = {tape.grad(x.y), tape.deferral(x.y)->weight};
  g.dz = tape.replace_grad(x.y);
  return g;
}

/// Takes it in place of a reader that cannot, or that no gradient reached.
void write_out(Tape& tape, const Raw& x) {
  Raw ungated = x;
  ungated.gate = {};
  kernels::MixBackward back;
  back.x = source(tape, ungated);
  back.dx = with_addend(tape, x);
  back.dout = back.dx.addend.da;
  back.weight = back.dx.addend.weight;
  back.dx.addend = {};
  kernels::mix_backward(tape.stream(), back);
}

}  // namespace

kernels::Source source(Tape& tape, const Raw& x) {
  kernels::Expansion expansion;
  kernels::Source s = source(tape, x, expansion);
  if (!expansion.w) return s;
  s.y = tape.store(x.y);
  kernels::pointwise(tape.stream(), {expansion.x, expansion.w, nullptr, {}, s.y});
  return s;
}

kernels::Source source(Tape& tape, const Raw& x, kernels::Expansion& expansion) {
  kernels::Source s;
  s.y = tape.value(x.y);
  s.act = x.act;
  tape.read(x.y);
  if (x.norm) {
    s.scale = row(tape, x.norm, kScale);
    s.shift = row(tape, x.norm, kShift);
  }
  if (x.gate) s.gate = tape.value(x.gate).f32();
  if (x.expanded && !s.y.data) {
    Raw of(x.expanded.y);
    of.act = x.expanded.act;
    of.norm = x.expanded.norm;
    expansion.x = source(tape, of);
    expansion.w = tape.params().view(x.expanded.w, s.y.c, expansion.x.y.c);
  }
  return s;
}

kernels::SourceGrad source_grad(Tape& tape, const Raw& x, TakesAddend takes) {
  if (left_to_reader(tape, x)) {
    if (takes == TakesAddend::yes && !x.gate) return with_addend(tape, x);
    write_out(tape, x);
  }
  const Tape::Slot slot = tape.grad_slot(x.y);
  if (!slot.grad) return {};
  kernels::SourceGrad g;
  if (!x.gate) {
    g = norm_sums(tape, x);
  } else if (x.slopes) {
    g.mean = row(tape, x.norm, kMean);
  }
  g.dz = slot.grad;
  g.how = slot.how;
  if (x.gate) {
    g.dgate = tape.grad_slot(x.gate).grad.f32();
    if (x.slopes) g.slope_sums = tape.grad_slot(x.slopes).grad.f32();
  }
  return g;
}

kernels::SourceGrad norm_sums(const Tape& tape, const Raw& x) {
  kernels::SourceGrad g;
  if (!x.norm) return g;
  g.mean = row(tape, x.norm, kMean);
  g.inv_std = row(tape, x.norm, kInvStd);
  g.sum_dz = row(tape, x.norm, kSumDz);
  g.sum_dz_xhat = row(tape, x.norm, kSumDzXhat);
  return g;
}

Var norm_rows(Tape& tape, int c) { return tape.floats(1, 1, kRows, c); }

kernels::Moments moments(const Tape& tape, Var rows, const NormWeight& norm) {
  if (!rows || uses_running(tape, norm)) return {};
  return {row(tape, rows, kMean), row(tape, rows, kVariance)};
}

void finish_norm(Tape& tape, const Raw& y, const NormWeight& norm) {
  const ParamStore& params = tape.params();
  const bool running = uses_running(tape, norm);
  kernels::NormForward args;
  args.c = tape.value(y.norm).c;
  args.rows = tape.value(y.y).rows();
  args.epsilon = norm.epsilon;
  args.momentum = norm.momentum;
  args.gamma = params.data(norm.gamma);
  args.beta = params.data(norm.beta);
  args.mean = running ? params.data(norm.mean) : row(tape, y.norm, kMean);
  args.variance = running ? params.data(norm.variance) : row(tape, y.norm, kVariance);
  args.inv_std = row(tape, y.norm, kInvStd);
  args.scale = row(tape, y.norm, kScale);
  args.shift = row(tape, y.norm, kShift);
  if (norm.keeps_running() && tape.recording()) {
    args.running_mean = params.grad(norm.mean);  // this shard's copy
    args.running_variance = params.grad(norm.variance);
  }
  args.position = static_cast<std::uint32_t>(norm.gamma.offset);
  args.origin = tape.origin();
  kernels::norm(tape.stream(), args);
}

kernels::Incoming incoming(Tape& tape, const Raw& y, const NormWeight& norm) {
  if (left_to_reader(tape, y)) write_out(tape, y);
  kernels::Incoming in;
  in.dz = tape.grad(y.y);
  if (!norm) return in;
  kernels::NormBackward args;
  args.c = tape.value(y.norm).c;
  args.rows = tape.value(y.y).rows();
  args.mean = row(tape, y.norm, kMean);
  args.inv_std = row(tape, y.norm, kInvStd);
  args.scale = row(tape, y.norm, kScale);
  args.sum_dz = row(tape, y.norm, kSumDz);
  args.sum_dz_xhat = row(tape, y.norm, kSumDzXhat);
  args.ca = row(tape, y.norm, kCa);
  args.cb = row(tape, y.norm, kCb);
  args.cc = row(tape, y.norm, kCc);
  args.dgamma = tape.params().grad(norm.gamma);
  args.dbeta = tape.params().grad(norm.beta);
  kernels::norm_backward(tape.stream(), args);
  in.y = tape.value(y.y);
  in.ca = args.ca;
  in.cb = args.cb;
  in.cc = args.cc;
  if (const Tape::Deferral* left = tape.deferral(y.y)) {
    in.deferred = {left->weight, left->spread.f32(), args.scale, row(tape, y.norm, kShift),
                   left->act};
    if (!in.dz) {
      in.dz = in.y;
      in.dz.data = nullptr;
    }
  }
  return in;
}

}  // namespace tunas::engine
