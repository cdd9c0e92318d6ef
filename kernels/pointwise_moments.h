// The first and second moments of a source, which stand in for an output that is not stored:
//
//   v = u - pivot;   s = sum_r v[r];   K = sum_r v[r]^T*v[r] - s^T*s/rows
//   mean_y = w*mean_u;   var_y[o] = w[o]*K*w[o]^T/rows
//
// The pivot is the mean of a few rows spread over the tensor, within a fraction of a standard
// deviation of the mean of all: next to nothing of K cancels, whatever the mean. K stands for an
// output that costs out/in as many multiply-adds, and is exact to rounding relative to the products
// it is made of. Sums are float over a chunk, double over chunks.
#pragma once

#include <array>

#include "kernels/gemm_loops.h"
#include "kernels/pointwise.h"
#include "kernels/pointwise_loops.h"
#include "kernels/tiles.h"

namespace tunas::kernels::cpu {

/// Of a source that stands in for an output.
inline constexpr int kMaxExpanded = 256;

class SourceMoments {
 public:
  /// For `chunks` chunks and an output of w.out.now channels.
  SourceMoments(const CpuContext& context, Workspace& workspace, const Source& x, const Filter& w,
                long chunks);

  const float* pivot() const { return pivot_; }
  /// Before all others.
  void choose_pivot();
  /// Rows v [rows][k] of a chunk, in order.
  void add(long chunk, int rows, const float* v, Write how) const;
  /// After the last of them, before what follows.
  void add_up(CpuContext& context);

  double mean(int i) const { return mean_[i]; }
  /// Of v, not of u.
  double centred_mean(int i) const { return mean_[i] - pivot_[i]; }
  /// Row o of w*K, for rows [begin, end) of w.
  const float* multiply(int begin, int end) const;

 private:
  const Source& x_;
  const Filter& w_;
  const GemmLoops& gemm_;
  const int k_;
  const long chunks_, stride_;
  float* const pivot_;
  float* const partial_;  // [chunk]: K, then s
  float* const moments_;  // K
  float* const packed_;
  float* const product_;  // [out][k]
  std::array<double, kMaxExpanded> mean_;
};

/// Throws Error(usage) where x cannot stand in for an output.
void check_expanded(const char* kernel, const Source& x);

/// pointwise() where y is not stored.
void pointwise_moments(CpuContext& context, const PointwiseForward& args);

}  // namespace tunas::kernels::cpu
