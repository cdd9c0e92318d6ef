#include "engine/ops/depthwise.h"

#include "kernels/depthwise.h"

namespace tunas::engine {

Raw depthwise(Tape& tape, const Raw& x, const Depthwise& op) {
  const Tensor in = tape.value(x.y);
  const Axis rows = pad_axis(op.padding, in.h, op.w.k, op.stride);
  const Axis columns = pad_axis(op.padding, in.w, op.w.k, op.stride);
  Raw y(tape.activation(in.n, rows.out, columns.out, in.c));
  y.act = op.act;
  y.takes_deferred = true;
  y.norm = norm_rows(tape, in.c);

  kernels::DepthwiseForward args;
  args.x = source(tape, x, args.expansion);
  args.w = tape.params().view(op.w, 1, in.c);
  args.stride = op.stride;
  args.top = rows.before;
  args.left = columns.before;
  args.moments = moments(tape, y.norm, op.norm);
  args.y = tape.value(y.y);
  kernels::depthwise(tape.stream(), args);
  finish_norm(tape, y, op.norm);

  tape.push([x, y, op, top = rows.before, left = columns.before](Tape& t) {
    if (!t.has_grad(y.y)) return;
    kernels::DepthwiseBackward back;
    back.dy = incoming(t, y, op.norm);
    back.x = source(t, x, back.expansion);
    back.w = t.params().view(op.w, 1, back.x.y.c);
    back.stride = op.stride;
    back.top = top;
    back.left = left;
    back.decay = op.decay;
    back.dx = source_grad(t, x, TakesAddend::yes);
    back.dw = t.params().grad_view(op.w, 1, back.x.y.c);
    kernels::depthwise_backward(t.stream(), back);
  });
  return y;
}

}  // namespace tunas::engine
