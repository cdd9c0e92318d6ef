#include "kernels/depthwise_rows.h"

#include "kernels/check.h"

namespace tunas::kernels::cpu {

DepthwiseRows::DepthwiseRows(const CpuContext& context, Workspace& workspace, const Tensor& x,
                             const Expansion& expansion, const DepthwisePlan& plan)
    : x_(x),
      expansion_(expansion),
      gemm_(gemm(context)),
      groups_(x.c, plan.groups()),
      w_{groups_,
         {expansion.w.f32(), 1, expansion.w.in.max, expansion.w.in.now, x.c,
          workspace.take(expansion.w ? long{expansion.w.in.now} * x.c : 0)}},
      made_(expansion.w ? whole_lines(long{x.w} * groups_.width) : 0),
      u_(expansion.w && !is_plain(expansion.x) ? whole_lines(long{x.w} * expansion.x.y.c) : 0) {}

void DepthwiseRows::pack(CpuContext& context) const {
  if (expansion_.w) w_.pack(context, gemm_);
}

DepthwiseRows::Row DepthwiseRows::at(const DepthwiseTile& tile, int n, int h, float* buffer) const {
  if (!expansion_.w) return {x_.f32() + row_offset(x_, n, h) + tile.c0, x_.c};
  return make(tile, (long{n} * x_.h + h) * x_.w, buffer);
}

DepthwiseRows::Row DepthwiseRows::make(const DepthwiseTile& tile, long begin, float* buffer) const {
  const Source& from = expansion_.x;
  const int k = from.y.c;
  float* const u = buffer + made_;
  if (u_) pointwise_loops().load_source(load_strip(from, {begin, x_.w}, 0, k, u));
  Multiply product;
  product.m = x_.w;
  product.n = tile.c;
  product.k = k;
  product.a = u_ ? u : from.y.f32() + begin * k;
  product.lda = k;
  product.b = w_[tile.c0 / groups_.width];
  product.c = buffer;
  product.ldc = groups_.width;
  product.ahead[0] = rows_ahead(from.y, begin + x_.w, x_.w);
  gemm_.multiply(product);
  return {buffer, product.ldc};
}

void check_rows(const char* kernel, const Tensor& x, const Expansion& expansion) {
  if (!expansion.w) return check_shape(kernel, "x", x, x.n, x.h, x.w, x.c);
  require(!x, kernel, ": x has memory and an expansion; pass one of them");
  check_pointwise(kernel, expansion.x, expansion.w);
  check_shape(kernel, "the expansion's x", expansion.x.y, x.n, x.h, x.w, expansion.w.in.now);
  require(expansion.w.out.now == x.c, kernel, ": the expansion makes ", expansion.w.out.now,
          " channels of x, which has ", x.c);
  require(!expansion.x.gate, kernel, ": the expansion's x is gated; it must not be");
}

}  // namespace tunas::kernels::cpu
