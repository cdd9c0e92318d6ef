// Where the depthwise kernels on the CPU have the rows of x from: from memory, or, where x is an
// expansion (source.h), from a product for the row and the channels of the tile at hand.
//
// The rows of u that a product reads have few channels; they are read once for each group.
#pragma once

#include "kernels/depthwise_tiles.h"
#include "kernels/gemm.h"
#include "kernels/pointwise_tiles.h"

namespace tunas::kernels::cpu {

class DepthwiseRows {
 public:
  /// `w` pixels of the tile's channels, before normalisation.
  struct Row {
    const float* x;
    long stride;  // floats from pixel to pixel
  };

  DepthwiseRows(const CpuContext& context, Workspace& workspace, const Tensor& x,
                const Expansion& expansion, const DepthwisePlan& plan);

  /// Packs the weights of the expansion, if there is one.
  void pack(CpuContext& context) const;
  /// Of the buffer that a thread needs.
  long floats() const { return made_ + u_; }
  /// Row h of image n, in memory or in the buffer.
  Row at(const DepthwiseTile& tile, int n, int h, float* buffer) const;

 private:
  Row make(const DepthwiseTile& tile, long begin, float* buffer) const;

  const Tensor& x_;
  const Expansion& expansion_;
  const GemmLoops& gemm_;
  Blocks groups_;  // the plan's
  PackedBlocks w_;
  long made_, u_;  // floats of a row of x, of a row of u unless it is read in place
};

/// Throws Error(usage) unless x has memory, or has none and is what the expansion makes.
void check_rows(const char* kernel, const Tensor& x, const Expansion& expansion);

}  // namespace tunas::kernels::cpu
