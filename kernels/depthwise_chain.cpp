#include "kernels/depthwise_chain.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels::cpu {

DepthwiseChain::DepthwiseChain(const CpuContext& context, Workspace& workspace,
                               const DepthwiseBackward& args, int slots)
    : args_(args),
      gemm_(gemm(context)),
      product_(args.expansion_grad.product),
      e_(args.expansion.w.out.now),
      i_(args.expansion.w.in.now),
      slots_(slots),
      size_(product_ ? long{e_} * i_ : 0),
      scaled_(workspace.take(size_)),
      packed_(workspace.take(size_)),
      partial_(workspace.take(slots * size_)) {}

void DepthwiseChain::pack() const {
  if (!wanted()) return;
  const Filter& w = args_.expansion.w;
  for (int e = 0; e < e_; ++e) {
    const float scale = args_.x.scale ? args_.x.scale[e] : 1;
    const float* from = w.f32() + long{e} * w.in.max;
    for (int i = 0; i < i_; ++i) scaled_[long{e} * i_ + i] = scale * from[i];
  }
  for (int p = 0; p < gemm_.panels.count(i_); ++p) gemm_.pack({scaled_, i_, 1, e_, i_, packed_}, p);
}

void DepthwiseChain::start(int slot) const {
  if (wanted()) std::fill_n(partial_ + slot * size_, size_, 0.0f);
}

void DepthwiseChain::add(const Row& row) const {
  Multiply product;
  product.m = product_.w;
  product.n = i_;
  product.k = e_;
  product.a = row.dz;
  product.lda = e_;
  product.b = packed_;
  product.c = product_.f32() + row.begin * i_;
  product.ldc = i_;
  gemm_.multiply(product);

  MultiplyTransposed outer;
  outer.m = i_;
  outer.n = e_;
  outer.rows = product_.w;
  outer.a = row.u;
  outer.lda = i_;
  outer.b = row.dz;
  outer.ldb = e_;
  outer.how = Write::accumulate;
  outer.c = partial_ + row.slot * size_;
  outer.ldc = e_;
  gemm_.multiply_transposed(outer);
}

void DepthwiseChain::add_slots(CpuContext& context) const {
  if (!wanted()) return;
  parallel(context, i_, [&](long i, int) {
    float* const sum = partial_ + i * e_;
    add_chunks({slots_ - 1, size_, sum + size_, 0, e_, nullptr, Write::accumulate, sum});
    for (int e = 0; e < e_; ++e) args_.expansion_grad.outer[long{e} * i_ + i] = sum[e];
  });
}

void check_chain(const char* kernel, const DepthwiseBackward& args) {
  const ExpansionGrad& grad = args.expansion_grad;
  require(!grad.product == !grad.outer, kernel,
          ": the two parts of an expansion's gradient go together");
  if (!grad.product) return;
  require(static_cast<bool>(args.expansion.w), kernel,
          ": the gradient of an expansion is wanted, and there is none");
  check_same_shape(kernel, "the expansion's product", grad.product, args.expansion.x.y);
  require(!args.dx.dz && args.dx.how == Write::overwrite, kernel,
          ": where an expansion's gradient is wanted, that of x is not written; pass no memory");
}

}  // namespace tunas::kernels::cpu
