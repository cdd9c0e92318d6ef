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

/// Bytes of a tensor, 0 for an absent one.
inline double bytes_of(const Tensor& t) { return t.data ? static_cast<double>(t.bytes()) : 0.0; }

}  // namespace tunas
