#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>

namespace tunas::test::reference {
namespace {

double hard_sigmoid(double x) { return std::clamp((x + 3) / 6, 0.0, 1.0); }

/// The pixel of the input that tap (i, j) of output pixel (p, q) reads, or -1 outside.
long pixel(Shape in, const Window& window, int n, int p, int q, int i, int j) {
  const int h = p * window.stride + i - window.top;
  const int w = q * window.stride + j - window.left;
  if (h < 0 || h >= in.h || w < 0 || w >= in.w) return -1;
  return (static_cast<long>(n) * in.h + h) * in.w + w;
}

/// each(output pixel, input pixel, tap), for the taps inside the image.
template <class Each>
void for_taps(Shape in, const Window& window, const Each& each) {
  long out = 0;
  for (int n = 0; n < in.n; ++n) {
    for (int p = 0; p < window.out_h; ++p) {
      for (int q = 0; q < window.out_w; ++q, ++out) {
        for (int i = 0; i < window.k; ++i) {
          for (int j = 0; j < window.k; ++j) {
            const long at = pixel(in, window, n, p, q, i, j);
            if (at >= 0) each(out, at, i * window.k + j);
          }
        }
      }
    }
  }
}

Values zeros(long size) { return Values(static_cast<std::size_t>(size), 0.0); }

/// dz = (weight*da + spread)*act'(z), da in the place of dz.
Values undeferred(const Incoming& dy) {
  const Deferred& deferred = dy.deferred;
  const std::size_t c = deferred.scale.size(), images = deferred.spread.size() / c;
  Values dz = zeros(static_cast<long>(dy.y.size()));
  for (std::size_t i = 0; i < dz.size(); ++i) {
    if (!dy.dz.empty()) dz[i] += deferred.weight * dy.dz[i];
    if (images > 0) dz[i] += deferred.spread[i / (dz.size() / images) * c + i % c];
    dz[i] *= activate_grad(deferred.act, deferred.scale[i % c] * dy.y[i] + deferred.shift[i % c]);
  }
  return dz;
}

Window inwards(Window window) {
  window.top = -window.top;
  window.left = -window.left;
  return window;
}

}  // namespace

double activate(Act act, double x) {
  switch (act) {
    case Act::none:
      return x;
    case Act::relu:
      return std::max(x, 0.0);
    case Act::relu6:
      return std::clamp(x, 0.0, 6.0);
    case Act::hard_swish:
      return x * hard_sigmoid(x);
    case Act::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Act::hard_sigmoid:
      return hard_sigmoid(x);
  }
  return x;
}

double activate_grad(Act act, double x) {
  const double slope = x > -3 && x < 3 ? 1.0 / 6 : 0;
  switch (act) {
    case Act::none:
      return 1;
    case Act::relu:
      return x > 0;
    case Act::relu6:
      return x > 0 && x < 6;
    case Act::hard_swish:
      return hard_sigmoid(x) + x * slope;
    case Act::sigmoid:
      return activate(act, x) * (1 - activate(act, x));
    case Act::hard_sigmoid:
      return slope;
  }
  return 1;
}

Values normalised(const Source& x) {
  Values z = x.y;
  for (std::size_t i = 0; !x.scale.empty() && i < z.size(); ++i) {
    const std::size_t c = i % x.scale.size();
    z[i] = x.scale[c] * z[i] + x.shift[c];
  }
  return z;
}

Values activated(const Source& x) {
  Values a = normalised(x);
  for (double& value : a) value = activate(x.act, value);
  return a;
}

Values read(const Source& x) {
  Values u = activated(x);
  const auto image = static_cast<std::size_t>(x.shape.h) * x.shape.w * x.shape.c;
  for (std::size_t i = 0; !x.gate.empty() && i < u.size(); ++i) {
    u[i] *= x.gate[i / image * x.shape.c + i % x.shape.c];
  }
  return u;
}

SourceGrad activated_grad(const Source& x, const Values& da, const Values& mean,
                          const Values& inv_std) {
  SourceGrad grad;
  grad.dz = normalised(x);
  for (std::size_t i = 0; i < da.size(); ++i) {
    grad.dz[i] = da[i] * activate_grad(x.act, grad.dz[i]);
  }
  if (mean.empty()) return grad;
  grad.sum_dz = grad.sum_dz_xhat = zeros(x.shape.c);
  for (std::size_t i = 0; i < da.size(); ++i) {
    const std::size_t c = i % x.shape.c;
    grad.sum_dz[c] += grad.dz[i];
    grad.sum_dz_xhat[c] += grad.dz[i] * (x.y[i] - mean[c]) * inv_std[c];
  }
  return grad;
}

SourceGrad source_grad(const Source& x, const Values& du, const Values& mean,
                       const Values& inv_std) {
  if (x.gate.empty()) return activated_grad(x, du, mean, inv_std);
  SourceGrad grad;
  grad.dz = du;
  grad.dgate = zeros(static_cast<long>(x.gate.size()));
  const Values a = activated(x);
  const auto image = static_cast<std::size_t>(x.shape.h) * x.shape.w * x.shape.c;
  for (std::size_t i = 0; i < du.size(); ++i) {
    const std::size_t at = i / image * x.shape.c + i % x.shape.c;
    grad.dz[i] *= x.gate[at];
    grad.dgate[at] += du[i] * a[i];
  }
  return grad;
}

Values incoming(const Incoming& dy) {
  Values result = dy.deferred.scale.empty() ? dy.dz : undeferred(dy);
  for (std::size_t i = 0; !dy.ca.empty() && i < result.size(); ++i) {
    const std::size_t c = i % dy.ca.size();
    result[i] = dy.ca[c] * result[i] + dy.cb[c] * dy.y[i] + dy.cc[c];
  }
  return result;
}

Moments moments(const Values& y, int c) {
  const double rows = static_cast<double>(y.size()) / c;
  Moments result{zeros(c), zeros(c)};
  for (std::size_t i = 0; i < y.size(); ++i) result.mean[i % c] += y[i] / rows;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double d = y[i] - result.mean[i % c];
    result.variance[i % c] += d * d / rows;
  }
  return result;
}

Values pointwise(const Values& u, const Values& w, const Values& bias, int c_in, int c_out) {
  const long rows = static_cast<long>(u.size()) / c_in;
  Values y = zeros(rows * c_out);
  for (long r = 0; r < rows; ++r) {
    for (int o = 0; o < c_out; ++o) {
      double sum = bias.empty() ? 0 : bias[o];
      for (int i = 0; i < c_in; ++i) sum += w[o * c_in + i] * u[r * c_in + i];
      y[r * c_out + o] = sum;
    }
  }
  return y;
}

LinearGrad pointwise_backward(const Values& dy, const Values& u, const Values& w, int c_in,
                              int c_out) {
  const long rows = static_cast<long>(u.size()) / c_in;
  LinearGrad grad{zeros(rows * c_in), zeros(static_cast<long>(w.size())), zeros(c_out)};
  for (long r = 0; r < rows; ++r) {
    for (int o = 0; o < c_out; ++o) {
      const double d = dy[r * c_out + o];
      grad.dbias[o] += d;
      for (int i = 0; i < c_in; ++i) {
        grad.du[r * c_in + i] += w[o * c_in + i] * d;
        grad.dw[o * c_in + i] += d * u[r * c_in + i];
      }
    }
  }
  return grad;
}

Values depthwise(const Values& u, Shape in, const Values& w, const Window& window) {
  Values y = zeros(static_cast<long>(in.n) * window.out_h * window.out_w * in.c);
  for_taps(in, window, [&](long out, long at, int tap) {
    for (int c = 0; c < in.c; ++c) y[out * in.c + c] += w[tap * in.c + c] * u[at * in.c + c];
  });
  return y;
}

LinearGrad depthwise_backward(const Values& dy, const Values& u, Shape in, const Values& w,
                              const Window& window) {
  LinearGrad grad{zeros(in.size()), zeros(static_cast<long>(w.size())), {}};
  for_taps(in, window, [&](long out, long at, int tap) {
    for (int c = 0; c < in.c; ++c) {
      grad.du[at * in.c + c] += w[tap * in.c + c] * dy[out * in.c + c];
      grad.dw[tap * in.c + c] += dy[out * in.c + c] * u[at * in.c + c];
    }
  });
  return grad;
}

Values conv(const Values& image, Shape in, const Values& w, int c_out, const Window& window) {
  const int taps = window.k * window.k;
  Values y = zeros(static_cast<long>(in.n) * window.out_h * window.out_w * c_out);
  for_taps(in, inwards(window), [&](long out, long at, int tap) {
    for (int o = 0; o < c_out; ++o) {
      for (int c = 0; c < in.c; ++c) {
        y[out * c_out + o] += w[(o * taps + tap) * in.c + c] * image[at * in.c + c];
      }
    }
  });
  return y;
}

Values conv_backward(const Values& dy, const Values& image, Shape in, int c_out,
                     const Window& window) {
  const int taps = window.k * window.k;
  Values dw = zeros(static_cast<long>(c_out) * taps * in.c);
  for_taps(in, inwards(window), [&](long out, long at, int tap) {
    for (int o = 0; o < c_out; ++o) {
      for (int c = 0; c < in.c; ++c) {
        dw[(o * taps + tap) * in.c + c] += dy[out * c_out + o] * image[at * in.c + c];
      }
    }
  });
  return dw;
}

Values pool(const Values& a, Shape in) {
  const long area = static_cast<long>(in.h) * in.w;
  Values y = zeros(static_cast<long>(in.n) * in.c);
  for (long i = 0; i < in.size(); ++i) y[i / (area * in.c) * in.c + i % in.c] += a[i] / area;
  return y;
}

Values pool_backward(const Values& dy, Shape in) {
  const long area = static_cast<long>(in.h) * in.w;
  Values da = zeros(in.size());
  for (long i = 0; i < in.size(); ++i) da[i] = dy[i / (area * in.c) * in.c + i % in.c] / area;
  return da;
}

}  // namespace tunas::test::reference
