// Spread on the CPU: lines of channels side by side, the images of each in order.
#include "kernels/spread.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const Spread& args) {
  const auto size = static_cast<double>(args.dy.size());
  const double sums = sizeof(float) * static_cast<double>(args.dy.c);
  return {(args.gated ? 9.0 : 5.0) * size,
          bytes_of(args.dy) + (args.gated ? 4 : 2) * sizeof(float) * size + sums,
          sizeof(float) * size + 2 * sums};
}

namespace cpu {

void spread(CpuContext& context, const Spread& args) {
  constexpr int kLine = 16;
  const Tensor& dy = args.dy;
  check_shape("spread", "dy", dy, dy.n, 1, 1, dy.c);
  require(args.pixels > 0, "spread: an image of ", args.pixels, " pixels has no mean");
  require(args.slopes && args.inv_std, "spread: pass the slope sums and inv_std of the pool's x");
  require(args.spread && args.sum_dz && args.sum_dz_xhat,
          "spread: pass memory for spread and both sums");
  const float pixels = static_cast<float>(args.pixels);
  parallel(context, (dy.c + kLine - 1) / kLine, [&](long line, int) {
    const int begin = static_cast<int>(line) * kLine, c = std::min(kLine, dy.c - begin);
    double s1[kLine] = {}, s2[kLine] = {};
    for (long n = 0; n < dy.n; ++n) {
      const long at = n * dy.c + begin;
      const float* q1 = args.slopes + at;
      const float* q2 = q1 + dy.size();
      float* spread = args.spread + at;
      for (int i = 0; i < c; ++i) {
        spread[i] = dy.f32()[at + i] / pixels;
        s1[i] += double{spread[i]} * q1[i];
        s2[i] += double{spread[i]} * q2[i];
      }
      if (!args.gated) continue;
      for (int i = 0; i < c; ++i) {
        s1[i] += args.gated[at + i];
        s2[i] += args.gated[at + dy.size() + i];
      }
    }
    for (int i = 0; i < c; ++i) {
      args.sum_dz[begin + i] = static_cast<float>(s1[i]);
      args.sum_dz_xhat[begin + i] = static_cast<float>(args.inv_std[begin + i] * s2[i]);
    }
  });
}

}  // namespace cpu
}  // namespace tunas::kernels
