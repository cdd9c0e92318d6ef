#include "engine/ops/mix.h"

#include "kernels/error.h"
#include "kernels/mix.h"

namespace tunas::engine {

Var mix(Tape& tape, std::span<const Term> terms) {
  require(!terms.empty() && terms.size() <= kernels::MixForward::kMaxTerms,
          "mix takes 1 to 4 terms, not ", terms.size());
  const Tensor shape = tape.value(terms[0].x.y);
  const Var out = tape.activation(shape.n, shape.h, shape.w, shape.c);

  kernels::MixForward args;
  for (const Term& term : terms) {
    args.weight[args.terms] = term.weight;
    args.x[args.terms++] = source(tape, term.x);
  }
  args.out = tape.value(out);
  kernels::mix(tape.stream(), args);

  // One closure a term, in order: the last one to run, the first term's, sees `out` freed after it.
  for (const Term& term : terms) {
    tape.push([out, term](Tape& t) {
      if (!t.grad(out)) return;
      kernels::MixBackward back;
      back.dout = t.grad(out);
      back.weight = term.weight;
      back.x = source(t, term.x);
      back.dx = source_grad(t, term.x);
      if (back.dx.dz) kernels::mix_backward(t.stream(), back);
    });
  }
  return out;
}

Raw combine(Tape& tape, std::span<const Term> terms) {
  if (terms.size() == 1 && terms[0].weight == 1) return terms[0].x;
  return mix(tape, terms);
}

}  // namespace tunas::engine
