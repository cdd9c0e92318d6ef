#include "engine/ops/pointwise.h"

#include "kernels/pointwise.h"

namespace tunas::engine {

Raw pointwise(Tape& tape, const Raw& x, const Pointwise& op) {
  const Tensor in = tape.value(x.y);
  const int width = round_up_8(op.out);
  Raw y(op.output == Pointwise::Output::logits ? tape.logits(in.n, width)
                                               : tape.activation(in.n, in.h, in.w, width));
  y.act = op.act;
  if (op.norm) y.norm = norm_rows(tape, op.out);

  kernels::PointwiseForward args;
  args.x = source(tape, x);
  args.w = tape.params().view(op.w, op.out, in.c);
  if (op.bias) args.bias = tape.params().data(op.bias);
  args.moments = moments(tape, y.norm, op.norm);
  args.y = tape.value(y.y);
  kernels::pointwise(tape.stream(), args);
  if (op.norm) finish_norm(tape, y, op.norm);

  tape.push([x, y, op](Tape& t) {
    if (!t.grad(y.y)) return;
    kernels::PointwiseBackward back;
    back.dy = incoming(t, y, op.norm);
    back.x = source(t, x);
    back.w = t.params().view(op.w, op.out, back.x.y.c);
    back.decay = op.decay;
    back.dx = source_grad(t, x);
    back.dw = t.params().grad_view(op.w, op.out, back.x.y.c);
    if (op.bias) back.dbias = t.params().grad(op.bias);
    kernels::pointwise_backward(t.stream(), back);
  });
  return y;
}

}  // namespace tunas::engine
