#include "engine/ops/pool.h"

#include "kernels/pool.h"

namespace tunas::engine {

Var pool(Tape& tape, const Raw& x, PoolRole role) {
  const Tensor in = tape.value(x.y);
  const Var y = tape.activation(in.n, 1, 1, in.c);
  kernels::pool(tape.stream(), {source(tape, x), tape.value(y)});

  tape.push([x, y, role](Tape& t) {
    if (!t.grad(y)) return;
    kernels::PoolBackward back;
    back.dy = t.grad(y);
    back.x = source(t, x);
    if (role == PoolRole::finishes) back.partial = t.grad(x.y);
    back.dx = source_grad(t, x);
    if (back.partial) back.dx.how = Write::overwrite;
    if (back.dx.dz) kernels::pool_backward(t.stream(), back);
  });
  return y;
}

}  // namespace tunas::engine
