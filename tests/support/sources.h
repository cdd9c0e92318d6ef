// The structs of kernels/source.h twice: as values for the reference (drawn once, from a problem),
// and as guarded memory for one call of a kernel.
#pragma once

#include <gtest/gtest.h>

#include "kernels/source.h"
#include "tests/support/memory.h"
#include "tests/support/problems.h"
#include "tests/support/random.h"
#include "tests/support/reference.h"

namespace tunas::test {

inline Tensor tensor(const Guarded& memory, reference::Shape shape) {
  return {memory.optional(), DType::f32, shape.n, shape.h, shape.w, shape.c};
}

/// Appends `more`, each name with `prefix` before it.
void append(Results& results, const Results& more, const std::string& prefix = "");

/// y, and as the problem says scale, shift, activation and gate.
reference::Source draw_source(Generator& random, const Problem& problem, reference::Shape shape);

class SourceMemory {
 public:
  explicit SourceMemory(const reference::Source& values);
  kernels::Source view() const;

 private:
  const reference::Source& values_;
  Guarded y_, scale_, shift_, gate_;
};

/// Of problem.c channels from problem.e, on numbers so coarse that these channels and what a source
/// makes of them are exact in float.
reference::Expansion draw_expansion(Generator& random, const Problem& problem);

class ExpansionMemory {
 public:
  ExpansionMemory(const reference::Expansion& values, const Problem& problem);
  kernels::Expansion view() const;

 private:
  const reference::Expansion& values_;
  SourceMemory x_;
  StoredFilter w_;
};

/// What a SourceGrad holds before the call: with `norm` the mean and inv_std of the sums, with
/// `accumulate` numbers that must be added to, otherwise nothing (the memory is NaN); with `addend`
/// one that lies elsewhere, or `in_place` where dz goes.
struct GradValues {
  static constexpr float kAddendWeight = 2;
  reference::Shape shape;
  bool gated = false;
  Values mean, inv_std;
  Values dz, sum_dz, sum_dz_xhat;
  Values addend = {};
  bool in_place = false;

  /// What is finished: du and the addend.
  Values total(Values du) const;

  /// `contribution` as the kernel must leave it: added to what was there.
  Results expected(const reference::SourceGrad& contribution) const;
};
GradValues draw_grad(Generator& random, const Problem& problem, const reference::Source& source);

class GradMemory {
 public:
  explicit GradMemory(const GradValues& values);
  kernels::SourceGrad view() const;
  Results results() const;

 private:
  const GradValues& values_;
  Guarded addend_, dz_, mean_, inv_std_, sum_dz_, sum_dz_xhat_, dgate_, slope_sums_;
};

/// Whether a backward pass takes an addend, or what that replaces comes before it.
enum class Fusion : unsigned char { fused, composed };

/// In a composed pass: writes the addend of dx, a gradient of x, out for the kernel to add to.
void compose(Fusion fusion, Stream stream, const kernels::Source& x, kernels::SourceGrad& dx);

/// An addend leaves what a pass that writes it out and one that adds to it leave: on integers every
/// number.
template <class Case>
void check_composition(const Problem& problem) {
  for (const Numbers numbers : {Numbers::real, Numbers::integers}) {
    Generator random(numbers);
    SCOPED_TRACE(problem.text + " " + random.trace());
    const Case c(random, problem);
    Cpu cpu(2);
    const Results fused = c.backward(cpu.stream(), Fusion::fused);
    const Results composed = c.backward(cpu.stream(), Fusion::composed);
    numbers == Numbers::real ? expect_close(fused, composed) : expect_equal(fused, composed);
  }
}

/// dz alone, or with `norm` also the coefficients and the raw output.
reference::Incoming draw_incoming(Generator& random, reference::Shape shape, bool norm);
/// As the problem says: with the coefficients behind a normalisation, deferred where it is.
reference::Incoming draw_incoming(Generator& random, const Problem& problem,
                                  reference::Shape shape);

class IncomingMemory {
 public:
  IncomingMemory(const reference::Incoming& values, reference::Shape shape);
  kernels::Incoming view() const;

 private:
  const reference::Incoming& values_;
  reference::Shape shape_;
  Guarded dz_, y_, ca_, cb_, cc_, spread_, scale_, shift_;
};

}  // namespace tunas::test
