#include "kernels/pointwise_unstored.h"

#include <algorithm>

#include "kernels/gemm.h"
#include "kernels/parallel.h"

namespace tunas::kernels::cpu {
namespace {

constexpr int kTaskRows = 32;  // of the small products

template <class Rows>
void for_rows(CpuContext& context, int rows, const Rows& each) {
  parallel(context, (rows + kTaskRows - 1) / kTaskRows, [&](long task, int) {
    const int begin = static_cast<int>(task) * kTaskRows;
    each(begin, std::min(begin + kTaskRows, rows));
  });
}

}  // namespace

UnstoredOutput::UnstoredOutput(const CpuContext& context, Workspace& workspace,
                               const PointwiseBackward& args, long chunks)
    : args_(args),
      gemm_(gemm(context)),
      k_(args.w.in.now),
      out_(args.w.out.now),
      chunks_(chunks),
      source_(context, workspace, args.x, args.w, chunks),
      ca_w_(workspace.take(long{out_} * k_)),
      cb_w_(workspace.take(long{out_} * k_)),
      e_(workspace.take(out_)),
      bias_(workspace.take(k_)),
      square_(workspace.take(long{k_} * k_)),
      packed_(workspace.take(long{k_} * k_)) {}

void UnstoredOutput::prepare(CpuContext& context) {
  source_.choose_pivot();
  if (!args_.dx.dz) return;
  for_rows(context, out_, [&](int begin, int end) {
    for (int o = begin; o < end; ++o) scale_row(o);
  });
  const Filter& w = args_.w;
  MultiplyTransposed product;
  product.m = 1;
  product.n = k_;
  product.rows = out_;
  product.a = e_;
  product.lda = 1;
  product.b = w.f32();
  product.ldb = w.in.max;
  product.c = bias_;
  product.ldc = k_;
  gemm_.multiply_transposed(product);
  product.lda = w.in.max;
  product.b = cb_w_;
  product.ldb = k_;
  for_rows(context, k_, [&](int begin, int end) {
    MultiplyTransposed part = product;
    part.m = end - begin;
    part.a = w.f32() + begin;
    part.c = square_ + long{begin} * k_;
    gemm_.multiply_transposed(part);
  });
  const Pack pack{square_, k_, 1, k_, k_, packed_};
  for (int p = 0; p < gemm_.panels.count(k_); ++p) gemm_.pack(pack, p);
}

void UnstoredOutput::scale_row(int o) const {
  const Incoming& dy = args_.dy;
  const float* w = args_.w.f32() + long{o} * args_.w.in.max;
  double y = 0;  // of the pivot
  for (int i = 0; i < k_; ++i) {
    y += double{w[i]} * pivot()[i];
    ca_w_[long{o} * k_ + i] = dy.ca[o] * w[i];
    cb_w_[long{o} * k_ + i] = dy.cb[o] * w[i];
  }
  e_[o] = static_cast<float>(dy.cb[o] * y + dy.cc[o]);
}

void UnstoredOutput::add_product(int rows, const float* v, float* du) const {
  Multiply product;
  product.m = rows;
  product.n = product.k = k_;
  product.a = v;
  product.lda = k_;
  product.b = packed_;
  product.c = du;
  product.ldc = k_;
  product.how = Write::accumulate;
  gemm_.multiply(product);
}

void UnstoredOutput::add_weight_grad(CpuContext& context, const Sums& sums) {
  source_.add_up(context);
  for_rows(context, out_, [&](int begin, int end) {
    const float* w_moments = source_.multiply(begin, end);
    for (int o = begin; o < end; ++o, w_moments += k_) weight_grad_row(sums, o, w_moments);
  });
}

void UnstoredOutput::weight_grad_row(const Sums& sums, int o, const float* w_moments) const {
  const Incoming& dy = args_.dy;
  const float* w = args_.w.f32() + long{o} * args_.w.in.max;
  float* dw = args_.dw.f32() + long{o} * args_.dw.in.max;
  double dz = 0, y = 0;  // S, and the mean of y
  for (long q = 0; q < chunks_; ++q) dz += sums.dz[q * sums.stride + o];
  for (int i = 0; i < k_; ++i) y += w[i] * source_.mean(i);
  const double rows = static_cast<double>(args_.x.y.rows());
  const double dy_sum = dy.ca[o] * dz + rows * (dy.cb[o] * y + dy.cc[o]);
  for (int i = 0; i < k_; ++i) {
    double product = -dz * source_.centred_mean(i);
    for (long q = 0; q < chunks_; ++q) product += sums.products[(q * out_ + o) * k_ + i];
    const double grad = dy.ca[o] * product + double{dy.cb[o]} * w_moments[i] +
                        dy_sum * source_.mean(i) + double{args_.decay} * w[i];
    dw[i] = static_cast<float>(dw[i] + grad);
  }
}

}  // namespace tunas::kernels::cpu
