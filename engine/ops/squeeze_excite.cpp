#include "engine/ops/squeeze_excite.h"

#include "engine/ops/pointwise.h"
#include "engine/ops/pool.h"
#include "kernels/gate.h"

namespace tunas::engine {
namespace {

Var gate(Tape& tape, const Raw& x, Act kind, float off, float on) {
  const Tensor in = tape.value(x.y);
  const Var g = tape.floats(in.n, 1, 1, in.c, Tape::Gradient::wanted);
  kernels::gate(tape.stream(), {in, kind, off, on, tape.value(g)});
  tape.push([x, g, kind, on](Tape& t) {
    if (!t.grad(g)) return;
    const Tensor dx = t.grad_slot(x.y).grad;
    kernels::gate_backward(t.stream(), {t.value(x.y), kind, on, t.grad(g), dx});
  });
  return g;
}

}  // namespace

Raw squeeze_excite(Tape& tape, const Raw& x, const SqueezeExcite& op) {
  const int c = tape.value(x.y).c;
  Raw scaled = x;
  const Var squeezed = squeeze(tape, scaled);
  const Raw hidden =
      pointwise(tape, squeezed, {op.reduce, op.hidden, op.reduce_bias, {}, Act::relu, op.decay});
  const Raw excited =
      pointwise(tape, hidden, {op.expand, c, op.expand_bias, {}, Act::none, op.decay});
  scaled.gate = gate(tape, excited, op.gate, op.off, op.on);
  return scaled;
}

}  // namespace tunas::engine
