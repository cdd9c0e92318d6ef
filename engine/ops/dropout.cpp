#include "engine/ops/dropout.h"

#include "kernels/dropout.h"

namespace tunas::engine {

Raw dropout(Tape& tape, const Raw& x, float rate, const PhiloxKey* key) {
  if (rate == 0 || !tape.recording()) return x;
  const Tensor in = tape.value(x.y);
  const Var out = tape.activation(in.n, in.h, in.w, in.c);
  kernels::dropout(tape.stream(), {source(tape, x), rate, key, tape.value(out)});
  tape.push([x, out, rate, key](Tape& t) {
    if (!t.grad(out)) return;
    kernels::dropout_backward(t.stream(),
                              {t.grad(out), source(t, x), rate, key, source_grad(t, x)});
  });
  return out;
}

}  // namespace tunas::engine
