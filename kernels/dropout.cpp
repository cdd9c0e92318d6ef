// Dropout on the CPU, formulas in dropout.h. Whether an element is kept is computed again in
// backward; philox gives four decisions, for four neighbouring channels. Backward sums run over all
// rows of a channel in order, in double, on one thread.
#include "kernels/dropout.h"

#include <algorithm>

#include "kernels/activation.h"
#include "kernels/check.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const DropoutForward& args) {
  return {4.0 * static_cast<double>(args.x.y.size()), bytes_of(args.x.y), bytes_of(args.out)};
}

Cost cost(const DropoutBackward& args) {
  if (!args.dx.dz) return {};
  const double before = args.dx.how == Write::accumulate ? bytes_of(args.dx.dz) : 0;
  return {8.0 * static_cast<double>(args.x.y.size()),
          bytes_of(args.x.y) + bytes_of(args.dout) + before, bytes_of(args.dx.dz)};
}

namespace cpu {
namespace {

constexpr int kGroup = 16;  // channels a thread takes at once in backward: one cache line

void check(const char* kernel, const Source& x, float rate) {
  check_same_shape(kernel, "x", x.y, x.y);
  require(x.gate == nullptr, kernel, ": x has a gate; dropout reads ungated sources");
  require(x.y.c % 4 == 0, kernel, ": x has ", x.y.c, " channels; a multiple of 4 is needed");
  require(rate >= 0 && rate < 1, kernel, ": rate is ", rate, "; it must lie in [0, 1)");
}

float normalised(const Source& x, long i, int c) {
  const float y = x.y.f32()[i];
  return x.scale ? x.scale[c] * y + x.shift[c] : y;
}

struct Sums {
  double dz[kGroup] = {};
  double dz_xhat[kGroup] = {};
};

/// dz of channels [begin, end) over all rows, and their sums.
Sums backward_group(const DropoutBackward& args, int begin, int end) {
  const Source& x = args.x;
  const SourceGrad& dx = args.dx;
  const float keep = 1 / (1 - args.rate);
  Sums sums;
  for (long row = 0; row < x.y.rows(); ++row) {
    for (int c = begin; c < end; c += 4) {
      const long first = row * x.y.c + c;
      const Random4 random = philox(*args.key, static_cast<std::uint64_t>(first / 4));
      for (int j = 0; j < 4; ++j) {
        const long i = first + j;
        const bool kept = uniform_float(random.v[j]) >= args.rate;
        const float slope = activate_grad(x.act, normalised(x, i, c + j));
        const float dz = kept ? args.dout.f32()[i] * keep * slope : 0;
        float& out = dx.dz.f32()[i];
        out = dx.how == Write::accumulate ? out + dz : dz;
        if (!dx.mean) continue;
        const int lane = c + j - begin;
        sums.dz[lane] += dz;
        sums.dz_xhat[lane] += dz * ((x.y.f32()[i] - dx.mean[c + j]) * dx.inv_std[c + j]);
      }
    }
  }
  return sums;
}

void write(float* out, Write how, double value) {
  *out = static_cast<float>(how == Write::accumulate ? *out + value : value);
}

}  // namespace

void dropout(CpuContext& context, const DropoutForward& args) {
  const Source& x = args.x;
  check("dropout", x, args.rate);
  check_same_shape("dropout", "out", args.out, x.y);
  const float keep = 1 / (1 - args.rate);
  parallel(context, x.y.rows(), [&](long row, int) {
    for (int c = 0; c < x.y.c; c += 4) {
      const long first = row * x.y.c + c;
      const Random4 random = philox(*args.key, static_cast<std::uint64_t>(first / 4));
      for (int j = 0; j < 4; ++j) {
        const bool kept = uniform_float(random.v[j]) >= args.rate;
        const float a = activate(x.act, normalised(x, first + j, c + j));
        args.out.f32()[first + j] = kept ? a * keep : 0;
      }
    }
  });
}

void dropout_backward(CpuContext& context, const DropoutBackward& args) {
  const SourceGrad& dx = args.dx;
  if (!dx.dz) return;
  const int channels = args.x.y.c;
  check("dropout_backward", args.x, args.rate);
  check_same_shape("dropout_backward", "dout", args.dout, args.x.y);
  check_same_shape("dropout_backward", "dz", dx.dz, args.x.y);
  refuse_addend("dropout_backward", dx);
  parallel(context, (channels + kGroup - 1) / kGroup, [&](long group, int) {
    const int begin = static_cast<int>(group) * kGroup;
    const int end = std::min(begin + kGroup, channels);
    const Sums sums = backward_group(args, begin, end);
    if (!dx.mean) return;
    for (int c = begin; c < end; ++c) {
      write(dx.sum_dz + c, dx.how, sums.dz[c - begin]);
      write(dx.sum_dz_xhat + c, dx.how, sums.dz_xhat[c - begin]);
    }
  });
}

}  // namespace cpu
}  // namespace tunas::kernels
