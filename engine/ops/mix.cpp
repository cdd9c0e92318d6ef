#include "engine/ops/mix.h"

#include <array>

#include "kernels/error.h"
#include "kernels/mix.h"

namespace tunas::engine {
namespace {

/// Whether the gradient of the sum is that of the term as it stands.
bool same(const Term& term) { return term.weight == 1 && term.x.act == Act::none; }

bool has_other_readers(const Tape& tape, const Raw& x) { return tape.readers(x.y) > 1; }

/// Whether it can be shared with the term: nothing else is there yet, and either it is the same or
/// the term's next reader or its convolution makes what it needs of it.
bool shares(const Tape& tape, const Term& term) {
  const Raw& x = term.x;
  if (tape.has_grad(x.y)) return false;
  return x.norm ? x.takes_deferred || has_other_readers(tape, x) : same(term);
}

void add_sums(kernels::MixSums& sums, const Tape& tape, const Term& term,
              const kernels::Source& x) {
  const kernels::SourceGrad to = norm_sums(tape, term.x);
  sums.term[sums.terms++] = {term.weight, x,         Write::overwrite, to.mean,
                             to.inv_std,  to.sum_dz, to.sum_dz_xhat};
}

/// Of a normalised term that shares: what its sums are taken of, and by whom. The next reader,
/// which has a gradient to add, takes them on its way.
void leave(Tape& tape, const Term& term, kernels::MixSums& sums) {
  const Raw& x = term.x;
  if (has_other_readers(tape, x)) {
    tape.defer(x.y, {term.weight, x.act, {}, Tape::Deferral::To::next_reader});
    return;
  }
  add_sums(sums, tape, term, source(tape, x));
  if (!same(term)) tape.defer(x.y, {term.weight, x.act});
}

void backward(Tape& tape, Var out, std::span<const Term> terms) {
  if (!tape.grad(out)) return;
  kernels::MixSums sums;
  sums.dout = tape.grad(out);
  for (const Term& term : terms) {
    if (shares(tape, term)) {
      if (term.x.norm) leave(tape, term, sums);
      tape.share_grad(term.x.y, out);
      continue;
    }
    kernels::MixBackward back;
    back.dout = sums.dout;
    back.weight = term.weight;
    back.x = source(tape, term.x);
    back.dx = source_grad(tape, term.x);
    if (back.dx.dz) kernels::mix_backward(tape.stream(), back);
  }
  if (sums.terms > 0) kernels::mix_sums(tape.stream(), sums);
}

}  // namespace

Var mix(Tape& tape, std::span<const Term> terms) {
  constexpr std::size_t kMost = kernels::MixForward::kMaxTerms;
  require(!terms.empty() && terms.size() <= kMost, "mix takes 1 to ", kMost, " terms, not ",
          terms.size());
  const Tensor shape = tape.value(terms[0].x.y);
  const Var out = tape.activation(shape.n, shape.h, shape.w, shape.c);

  kernels::MixForward args;
  std::array<Term, kMost> kept;
  for (const Term& term : terms) {
    kept[static_cast<std::size_t>(args.terms)] = term;
    args.weight[args.terms] = term.weight;
    args.x[args.terms++] = source(tape, term.x);
  }
  args.out = tape.value(out);
  kernels::mix(tape.stream(), args);
  tape.push([out, kept, count = terms.size()](Tape& t) { backward(t, out, {kept.data(), count}); });
  return out;
}

Raw combine(Tape& tape, std::span<const Term> terms) {
  if (terms.size() == 1 && terms[0].weight == 1) return terms[0].x;
  return mix(tape, terms);
}

}  // namespace tunas::engine
