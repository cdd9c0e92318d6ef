// Argument checks that kernels share: one sentence with the kernel, the argument and the shapes.
#pragma once

#include <sstream>
#include <string>

#include "kernels/error.h"
#include "kernels/source.h"

namespace tunas::kernels {

inline std::string shape_of(const Tensor& t) {
  std::ostringstream out;
  out << '[' << t.n << ',' << t.h << ',' << t.w << ',' << t.c << ']';
  return out.str();
}

/// Throws Error(usage) unless `t`, present or absent, is fp32 and of shape [n][h][w][c].
inline void check_absent_shape(const char* kernel, const char* name, const Tensor& t, int n, int h,
                               int w, int c) {
  require(t.type == DType::f32, kernel, ": ", name, " is bf16; the CPU kernels take fp32");
  if (t.n != n || t.h != h || t.w != w || t.c != c) {
    fail(Exit::usage, kernel, ": ", name, " is ", shape_of(t), "; it must be ",
         shape_of({nullptr, t.type, n, h, w, c}));
  }
}

/// The same, and `t` must be present.
inline void check_shape(const char* kernel, const char* name, const Tensor& t, int n, int h, int w,
                        int c) {
  require(t.data != nullptr, kernel, ": ", name, " has no memory; pass a tensor");
  check_absent_shape(kernel, name, t, n, h, w, c);
}

inline void check_same_shape(const char* kernel, const char* name, const Tensor& t,
                             const Tensor& like) {
  check_shape(kernel, name, t, like.n, like.h, like.w, like.c);
}

/// Throws Error(usage) unless there is no addend or dx can take it.
inline void check_addend(const char* kernel, const SourceGrad& dx) {
  const Tensor &da = dx.addend.da, &dz = dx.dz;
  if (!da) return;
  require(dz && dx.how == Write::overwrite, kernel,
          ": an addend stands in for what dz would hold; pass a dz to overwrite");
  if (da.type != dz.type || shape_of(da) != shape_of(dz)) {
    fail(Exit::usage, kernel, ": the addend is ", shape_of(da), "; it must be ", shape_of(dz),
         " and of the type of dz");
  }
}

/// Throws Error(usage) if there is an addend: of a kernel that cannot take one.
inline void refuse_addend(const char* kernel, const SourceGrad& dx) {
  require(!dx.addend.da, kernel, ": takes no addend; write it out with mix_backward first");
}

}  // namespace tunas::kernels
