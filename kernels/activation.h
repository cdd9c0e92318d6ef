// The activations and their derivatives at one value; the meaning of Act is in types.h.
//
//   act'(0) = 0 for relu and relu6 (relu6 also at 6)
//   hard_sigmoid' = 1/6 inside (-3, 3), 0 elsewhere;  hard_swish' = hard_sigmoid + x*hard_sigmoid'
#pragma once

#include <cmath>

#include "kernels/philox.h"
#include "kernels/types.h"

namespace tunas::kernels {

template <class T>
TUNAS_HD inline T hard_sigmoid(T x) {
  return x <= T(-3) ? T(0) : x >= T(3) ? T(1) : (x + T(3)) * T(1.0 / 6.0);
}

template <class T>
TUNAS_HD inline T activate(Act act, T x) {
  switch (act) {
    case Act::none:
      return x;
    case Act::relu:
      return x <= T(0) ? T(0) : x;  // NaN stays NaN
    case Act::relu6:
      return x <= T(0) ? T(0) : x >= T(6) ? T(6) : x;
    case Act::hard_swish:
      return x * hard_sigmoid(x);
    case Act::sigmoid:
      return T(1) / (T(1) + std::exp(-x));
    case Act::hard_sigmoid:
      return hard_sigmoid(x);
  }
  return x;
}

template <class T>
TUNAS_HD inline T activate_grad(Act act, T x) {
  const T slope = x > T(-3) && x < T(3) ? T(1.0 / 6.0) : T(0);
  switch (act) {
    case Act::none:
      return T(1);
    case Act::relu:
      return x > T(0) ? T(1) : T(0);
    case Act::relu6:
      return x > T(0) && x < T(6) ? T(1) : T(0);
    case Act::hard_swish:
      return hard_sigmoid(x) + x * slope;
    case Act::sigmoid: {
      const T s = T(1) / (T(1) + std::exp(-x));
      return s * (T(1) - s);
    }
    case Act::hard_sigmoid:
      return slope;
  }
  return T(1);
}

}  // namespace tunas::kernels
