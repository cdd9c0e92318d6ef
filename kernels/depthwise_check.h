// What the depthwise kernels on CUDA refuse: arguments that contradict one another.
#pragma once

#include "kernels/check.h"
#include "kernels/depthwise.h"
#include "kernels/error.h"

namespace tunas::kernels {

inline constexpr int kMostExpanded = 256;  // channels of the source of an expansion

/// Throws Error(usage) unless x can be read, or made by its expansion.
inline void check_input(const Source& x, const Filter& w, const Expansion& e) {
  require(!x.gate, "depthwise on CUDA takes no gated source; write it out with mix first");
  require(w.type == x.y.type, "depthwise on CUDA takes weights of the type of x");
  require(!x.y.data == static_cast<bool>(e.w),
          "depthwise takes either a stored x or one that an expansion makes");
  if (!e.w) return;
  const Tensor& from = e.x.y;
  require(!e.x.gate, "the source of an expansion may not be gated");
  require(from.data && from.n == x.y.n && from.h == x.y.h && from.w == x.y.w,
          "the source of an expansion must have the pixels of what it makes");
  require(from.type == x.y.type && e.w.type == x.y.type,
          "an expansion on CUDA takes a source and weights of the type of what it makes");
  require(e.w.out.now == x.y.c && e.w.in.now == from.c && from.c % 8 == 0, "an expansion of ",
          from.c, " to ", x.y.c, " channels takes a filter of these widths, not of ", e.w.in.now,
          " to ", e.w.out.now);
  require(from.c <= kMostExpanded, "an expansion of ", from.c, " channels; it takes at most ",
          kMostExpanded);
}

/// Throws Error(usage) unless dy can be made of what it has.
inline void check_incoming(const Incoming& dy) {
  require(dy.dz.data || (dy.deferred.scale && dy.deferred.spread),
          "depthwise backward takes no dz only where a spread is deferred to it");
  require(!dy.deferred.scale == !dy.deferred.shift,
          "a deferred gradient takes both scale and shift or neither");
  require(dy.y.data || !(dy.ca || dy.deferred.scale),
          "depthwise backward needs the raw output that its gradient is made with");
}

}  // namespace tunas::kernels
