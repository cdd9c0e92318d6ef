// The backward pass of an expansion, row by row behind that of the depthwise convolution (CPU): the
// part of it that needs no sums over all rows, ExpansionGrad of source.h.
//
// A row of the gradient is multiplied while it is in the caches. The products with u are added up
// per slot of the plan, transposed ([i][e], e being the long side), and slots in their order.
#pragma once

#include "kernels/depthwise.h"
#include "kernels/gemm.h"
#include "kernels/tiles.h"

namespace tunas::kernels::cpu {

class DepthwiseChain {
 public:
  /// One row of image pixels: the gradient [w][e] and the value read [w][i].
  struct Row {
    int slot = 0;
    long begin = 0;  // its first pixel
    const float* dz = nullptr;
    const float* u = nullptr;
  };

  DepthwiseChain(const CpuContext& context, Workspace& workspace, const DepthwiseBackward& args,
                 int slots);

  bool wanted() const { return static_cast<bool>(product_); }
  /// Of the row of the gradient that a thread needs.
  long floats() const { return wanted() ? whole_lines(long{product_.w} * e_) : 0; }
  /// Packs diag(scale)*w, if a gradient is wanted.
  void pack() const;
  void start(int slot) const;
  void add(const Row& row) const;
  void add_slots(CpuContext& context) const;

 private:
  const DepthwiseBackward& args_;
  const GemmLoops& gemm_;
  const Tensor product_;
  const int e_, i_, slots_;
  const long size_;
  float* const scaled_;   // [e][i]
  float* const packed_;   // the same
  float* const partial_;  // [slot][i][e]
};

/// Throws Error(usage) unless the gradient of the expansion, where it is wanted, has its place.
void check_chain(const char* kernel, const DepthwiseBackward& args);

}  // namespace tunas::kernels::cpu
