#include "engine/ops/conv.h"

#include "kernels/conv.h"

namespace tunas::engine {

Raw conv(Tape& tape, Var image, const Conv& op) {
  const Tensor in = tape.value(image);
  Raw y(tape.activation(in.n, op.axis.out, op.axis.out, op.out));
  y.norm = norm_rows(tape, op.out);

  kernels::ConvForward args;
  args.image = in;
  args.w = tape.params().view(op.w, op.out, in.c);
  args.stride = op.stride;
  args.top = args.left = op.border - op.axis.before;
  args.moments = moments(tape, y.norm, op.norm);
  args.y = tape.value(y.y);
  kernels::conv(tape.stream(), args);
  finish_norm(tape, y, op.norm);

  tape.push([image, y, op](Tape& t) {
    if (!t.grad(y.y)) return;
    kernels::ConvBackward back;
    back.dy = incoming(t, y, op.norm);
    back.image = t.value(image);
    back.w = t.params().view(op.w, op.out, back.image.c);
    back.stride = op.stride;
    back.top = back.left = op.border - op.axis.before;
    back.decay = op.decay;
    back.dw = t.params().grad_view(op.w, op.out, back.image.c);
    kernels::conv_backward(t.stream(), back);
  });
  return y;
}

}  // namespace tunas::engine
