#include "engine/ops/softmax_xent.h"

#include "kernels/softmax_xent.h"

namespace tunas::engine {

void softmax_xent(Tape& tape, const Raw& logits, const SoftmaxXent& op) {
  kernels::SoftmaxXent args;
  args.logits = tape.value(logits.y);
  args.classes = op.classes;
  args.labels = op.labels;
  args.smoothing = op.smoothing;
  args.loss = op.loss;
  args.rank = op.rank;
  // The gradient is cheap and needs what the forward pass has in its hands: computed here.
  if (tape.recording()) args.dlogits = tape.grad_slot(logits.y).grad;
  kernels::softmax_xent(tape.stream(), args);
}

}  // namespace tunas::engine
