// Pointwise backward (pointwise.h) as products of matrices, for the kernels that make them: dgrad
// and wgrad one by one (pointwise_backward.cu), both at once (pointwise_joint.cu).
#pragma once

#include "kernels/expanded_operand.cuh"
#include "kernels/grad_epilogue.cuh"

namespace tunas::kernels::cuda {

/// Backward as products of matrices: du = a*w; what is added to dw, or makes it: a^T*u. `sum` says
/// where that goes.
template <class A>
struct Products {
  using T = typename A::Element;
  A a;
  WeightOperand<T> w;
  SourceOperand<T> u;
  OrderedSum sum;
};

/// Partial sums of dw that, written and read once, stay below half of what the tensors move, but
/// always a few: small tensors need the blocks more than the bytes.
template <class A>
int few_partials(const Products<A>& of) {
  constexpr int kFew = 8;
  const double tensors = 2.0 * of.a.lines * (of.a.width + of.u.width) * sizeof(typename A::Element);
  const double partial = 2.0 * of.w.lines * of.w.width * sizeof(float);
  return larger(static_cast<int>(tensors / 2 / partial), kFew);
}

/// Both products in one kernel that reads a and u once for every slice of columns; false, with
/// nothing touched, where registers do not hold such a slice (pointwise_joint.cu).
bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<IncomingOperand<bf16>>& of);
bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<ExpandedOperand<bf16>>& of);

}  // namespace tunas::kernels::cuda
