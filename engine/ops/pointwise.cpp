#include "engine/ops/pointwise.h"

#include "kernels/pointwise.h"

namespace tunas::engine {
namespace {

/// Whether the depthwise convolution behind an expansion of x should make it again, tile by tile,
/// instead of reading it: that saves writing `out` channels a pixel and reading them three times,
/// for reading those of x again, halo included, and multiplying twice more in a training pass.
/// An expansion is known by its activation: others leave that to a layer of its own.
bool made_again(const Tensor& in, const Pointwise& op) {
  // By an H100's data sheet a product of up to 100 channels takes less time than its bytes (half of
  // that here until the lines `expansion` of cuda_kernel_bench have been seen); small images are
  // mostly halo. On the CPU it pays where depthwise_bench says so.
  const bool half = in.type == DType::bf16;
  const int most = half ? 48 : 16, least_side = half ? 28 : 112;
  return op.act != Act::none && op.out > 2 * in.c && in.c <= most && in.h >= least_side;
}

Raw output(Tape& tape, const Raw& x, const Pointwise& op) {
  const Tensor in = tape.value(x.y);
  const int width = round_up_8(op.out);
  if (op.output == Pointwise::Output::logits) return tape.logits(in.n, width);
  const bool can = op.norm && !op.bias && !x.gate && !x.expanded;
  if (!can || (op.output != Pointwise::Output::unstored && !made_again(in, op))) {
    return tape.activation(in.n, in.h, in.w, width);
  }
  Raw y(tape.unstored(in.n, in.h, in.w, width));
  y.expanded = {x.y, x.norm, x.act, op.w};
  return y;
}

}  // namespace

Raw pointwise(Tape& tape, const Raw& x, const Pointwise& op) {
  const Tensor in = tape.value(x.y);
  Raw y = output(tape, x, op);
  y.act = op.act;
  y.takes_deferred = true;
  if (op.norm) y.norm = norm_rows(tape, op.out);

  kernels::PointwiseForward args;
  args.x = source(tape, x);
  args.w = tape.params().view(op.w, op.out, in.c);
  if (op.bias) args.bias = tape.params().data(op.bias);
  args.moments = moments(tape, y.norm, op.norm);
  args.y = tape.value(y.y);
  if (args.y || args.moments.mean) kernels::pointwise(tape.stream(), args);
  if (op.norm) finish_norm(tape, y, op.norm);

  tape.push([x, y, op](Tape& t) {
    if (!t.has_grad(y.y)) return;
    kernels::PointwiseBackward back;
    back.dy = incoming(t, y, op.norm);
    back.x = source(t, x);
    back.w = t.params().view(op.w, op.out, back.x.y.c);
    back.decay = op.decay;
    back.dx = source_grad(t, x, TakesAddend::yes);
    back.dw = t.params().grad_view(op.w, op.out, back.x.y.c);
    if (op.bias) back.dbias = t.params().grad(op.bias);
    kernels::pointwise_backward(t.stream(), back);
  });
  return y;
}

}  // namespace tunas::engine
