// The kernels of the contract once more, here how tensors are read and what multiplies them (the
// rest is in reference_small.h): naive, in double, written as the plain formula of their headers,
// on values at their active width. Tensors are [n][h][w][c], filters [out][k][k][in] and [k][k][c],
// all packed. gradcheck proves the gradients here; the kernels are compared with them.
#pragma once

#include "kernels/types.h"
#include "tests/support/compare.h"

namespace tunas::test::reference {

struct Shape {
  int n = 1, h = 1, w = 1, c = 1;
  long rows() const { return static_cast<long>(n) * h * w; }
  long size() const { return rows() * c; }
};

double activate(Act act, double x);
double activate_grad(Act act, double x);

// ---- how tensors are read (kernels/source.h) ----

struct Source {
  Shape shape;
  Values y;
  Values scale, shift;  // [c]; empty: z = y
  Act act = Act::none;
  Values gate;  // [n][c]; empty: none
};
Values normalised(const Source& x);  // z
Values activated(const Source& x);   // a
Values read(const Source& x);        // u

/// What makes a source's y where it is not stored.
struct Expansion {
  Source x;
  Values w;  // [out][in]; empty: there is no expansion
};

struct SourceGrad {
  Values dz;
  Values sum_dz, sum_dz_xhat;  // empty unless mean and inv_std were given
  Values dgate;                // gated sources: dz is then du*gate and there are no sums
  Values slope_sums = {};      // but those of each image [2][n][c], where a mean was given
};
/// From du, the gradient of what was read.
SourceGrad source_grad(const Source& x, const Values& du, const Values& mean,
                       const Values& inv_std);
/// From da, the gradient of the activated value, whatever gate the source has.
SourceGrad activated_grad(const Source& x, const Values& da, const Values& mean,
                          const Values& inv_std);

struct Deferred {
  double weight = 1;
  Values spread;        // [n][c]; empty: 0
  Values scale, shift;  // [c]; empty: nothing is deferred
  Act act = Act::none;
};

struct Incoming {
  Values dz, y;       // dz empty: 0, where `deferred` has a spread
  Values ca, cb, cc;  // [c]; empty: dy = dz
  Deferred deferred = {};
};
Values incoming(const Incoming& dy);

struct Moments {
  Values mean, variance;
};
/// Two passes over the values.
Moments moments(const Values& y, int c);

// ---- linear operations on u ----

struct LinearGrad {
  Values du, dw, dbias;
};

/// y[r,o] = sum_i w[o,i]*u[r,i] + bias[o]; bias may be empty.
Values pointwise(const Values& u, const Values& w, const Values& bias, int c_in, int c_out);
LinearGrad pointwise_backward(const Values& dy, const Values& u, const Values& w, int c_in,
                              int c_out);

struct Window {
  int k = 1, stride = 1, top = 0, left = 0;
  int out_h = 1, out_w = 1;
};

/// Reads zero outside the image.
Values depthwise(const Values& u, Shape in, const Values& w, const Window& window);
LinearGrad depthwise_backward(const Values& dy, const Values& u, Shape in, const Values& w,
                              const Window& window);

/// Valid convolution of a bordered image; top and left shift the first tap inwards.
Values conv(const Values& image, Shape in, const Values& w, int c_out, const Window& window);
/// dw only.
Values conv_backward(const Values& dy, const Values& image, Shape in, int c_out,
                     const Window& window);

Values pool(const Values& a, Shape in);
/// da
Values pool_backward(const Values& dy, Shape in);
/// [2][n][c]: sums over the pixels of an image of da*act'(z) and of da*act'(z)*(y - mean); da
/// empty: 1.
Values slope_sums(const Source& x, const Values& da, const Values& mean);

}  // namespace tunas::test::reference
