#include "engine/ops/pool.h"

#include "kernels/pool.h"
#include "kernels/spread.h"

namespace tunas::engine {
namespace {

/// The whole backward pass, where the convolution of x can finish it: without a pass over x.
void spread(Tape& tape, const Raw& x, Var y) {
  const kernels::SourceGrad sums = norm_sums(tape, x);
  const Tensor in = tape.value(x.y);
  kernels::Spread args;
  args.dy = tape.grad(y);
  args.pixels = in.h * in.w;
  args.slopes = tape.value(x.slopes).f32();
  args.gated = tape.grad(x.slopes).f32();
  args.inv_std = sums.inv_std;
  args.spread = tape.defer(x.y, {1, x.act, tape.gradient_floats(in.n, 1, 1, in.c)}).spread.f32();
  args.sum_dz = sums.sum_dz;
  args.sum_dz_xhat = sums.sum_dz_xhat;
  kernels::spread(tape.stream(), args);
}

enum class Role : unsigned char { only_reader, before_a_gated_one };

Var pool(Tape& tape, Raw& x, Role role) {
  const Tensor in = tape.value(x.y);
  const Var y = tape.activation(in.n, 1, 1, in.c);
  kernels::PoolForward args{source(tape, x), tape.value(y)};
  if (tape.recording() && x.takes_deferred && x.norm) {
    x.slopes = tape.floats(2, in.n, 1, in.c, Tape::Gradient::wanted);
    args.mean = norm_sums(tape, x).mean;
    args.slope_sums = tape.value(x.slopes).f32();
  }
  kernels::pool(tape.stream(), args);

  tape.push([x, y, role](Tape& t) {
    if (!t.grad(y)) return;
    const bool gated = role == Role::before_a_gated_one;
    if (x.slopes && t.readers(x.y) == (gated ? 2 : 1)) return spread(t, x, y);
    kernels::PoolBackward back;
    back.dy = t.grad(y);
    back.x = source(t, x);
    if (gated) back.partial = t.grad(x.y);
    back.dx = source_grad(t, x);
    if (back.partial) back.dx.how = Write::overwrite;
    if (back.dx.dz) kernels::pool_backward(t.stream(), back);
  });
  return y;
}

}  // namespace

Var pool(Tape& tape, const Raw& x) {
  Raw here = x;
  return pool(tape, here, Role::only_reader);
}

Var squeeze(Tape& tape, Raw& x) { return pool(tape, x, Role::before_a_gated_one); }

}  // namespace tunas::engine
