// What a kernel call must do at least: declared beside each kernel, summed by dry runs, and the
// floor that benches and tests hold the kernel against.
#pragma once

#include "kernels/tensor.h"

namespace tunas {

struct Cost {
  double flops = 0;  // a multiply-add counts two
  double bytes_read = 0;
  double bytes_written = 0;

  double bytes() const { return bytes_read + bytes_written; }
  Cost& operator+=(const Cost& o) {
    flops += o.flops;
    bytes_read += o.bytes_read;
    bytes_written += o.bytes_written;
    return *this;
  }
};

/// How far a kernel on the GPU may stay above the least, held by tests/cuda/traffic_test.cpp on
/// small shapes: bytes over cost().bytes(), partial sums in the workspace over the same, sectors
/// over the fewest that hold what warps ask for, passes over the banks of shared memory over the
/// fewest. Sectors that several blocks read count for each of them, though most come from the
/// second-level cache. A kernel that needs more than this says so beside its entry, with the
/// reason.
struct Slack {
  double bytes = 1.15, partials = 0.15, sectors = 1.15, banks = 1.15;
};

/// Bytes of a tensor, 0 for an absent one.
inline double bytes_of(const Tensor& t) { return t.data ? static_cast<double>(t.bytes()) : 0.0; }

}  // namespace tunas
