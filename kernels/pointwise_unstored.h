// The backward pass of a pointwise convolution whose output y = w*u was not stored. With v = u -
// pivot and the moments of pointwise_moments.h (mean m of u, its distance d from the pivot, K about
// the mean), the formulas of pointwise.h become
//
//   du[r] = dz[r]*(diag(ca)*w) + v[r]*M + e*w;   M = w^T*diag(cb)*w,  e = cb*(w*pivot) + cc
//   dw    = diag(ca)*(G - S*d^T) + diag(cb)*w*K + D*m^T
//           G = sum_r dz[r]^T*v[r],  S = sum_r dz[r],  D = diag(ca)*S + rows*(cb*(w*m) + cc)
//
// D is the sum of dy over the rows. The coefficients of a normalisation make it 0, and dw then does
// not depend on the mean of u: three terms that grow with it would cancel. Centred they are as
// large as dw itself, and D, whatever the coefficients, is taken in double.
#pragma once

#include "kernels/pointwise_moments.h"

namespace tunas::kernels::cpu {

class UnstoredOutput {
 public:
  static bool is_meant(const Incoming& dy) { return dy.ca && !dy.y; }

  /// Products whose weight gradient comes in `chunks` chunks.
  UnstoredOutput(const CpuContext& context, Workspace& workspace, const PointwiseBackward& args,
                 long chunks);

  /// Before all others.
  void prepare(CpuContext& context);

  const float* pivot() const { return source_.pivot(); }
  /// diag(ca)*w, [out][in]: what dz is multiplied by, and the constant of the product.
  float* weights() const { return ca_w_; }
  const float* bias() const { return bias_; }
  /// du += v*M.
  void add_product(int rows, const float* v, float* du) const;
  /// Of the weight gradient.
  void add_rows(long chunk, int rows, const float* v, Write how) const {
    source_.add(chunk, rows, v, how);
  }

  /// The chunks' G [chunk][out][in] and S [chunk][stride].
  struct Sums {
    const float* products = nullptr;
    const float* dz = nullptr;
    long stride = 0;
  };
  void add_weight_grad(CpuContext& context, const Sums& sums);

 private:
  void scale_row(int o) const;
  void weight_grad_row(const Sums& sums, int o, const float* w_moments) const;

  const PointwiseBackward& args_;
  const GemmLoops& gemm_;
  const int k_, out_;
  const long chunks_;
  SourceMoments source_;
  float* const ca_w_;
  float* const cb_w_;
  float* const e_;
  float* const bias_;    // e*w
  float* const square_;  // M
  float* const packed_;
};

}  // namespace tunas::kernels::cpu
