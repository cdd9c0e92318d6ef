// Depthwise convolution on the CPU, backward. A row of x, loaded or made of its expansion, meets
// the rows of dy that lie in the ring: each vector of dy serves dgrad and wgrad, then act' is
// applied and the row of dx is written. Tiles leave filter gradients and sums, which are added in
// tile order.
#include <algorithm>
#include <atomic>

#include "kernels/check.h"
#include "kernels/depthwise_rows.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const DepthwiseBackward& args) {
  const double products = 2.0 * args.w.k * args.w.k * static_cast<double>(args.dy.dz.size());
  const double dx = bytes_of(args.dx.dz);
  Cost cost{products * ((args.dx.dz ? 1 : 0) + (args.dw ? 1 : 0)),
            bytes_of(args.dy.dz) + (args.dy.ca ? bytes_of(args.dy.y) : 0) + bytes_of(args.x.y) +
                (args.dx.how == Write::accumulate ? dx : 0) + bytes_of(args.dx.addend.da),
            dx};
  return cost += kernels::cost(args.expansion);
}

namespace cpu {
namespace {

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

class Backward {
 public:
  Backward(const CpuContext& context, const DepthwiseBackward& a);
  void run(CpuContext& context) const;

 private:
  void tile(const DepthwiseTile& tile, float* rows) const;
  void load_dy(const DepthwiseTile& tile, int n, int p, float* out) const;
  RowsAhead ahead(const DepthwiseTile& tile, int n, int h) const;
  void add_dw(CpuContext& context) const;
  void add_slots(float* parts, const float* factor, float* out) const;
  long scratch() const { return ring_.floats() + x_rows_.floats(); }

  const DepthwiseBackward& args_;
  const DepthwiseLoops& loops_;
  int before_, columns_;  // of dy: zeros before column 0, all
  DepthwisePlan plan_;
  DepthwiseRing ring_;  // of dy
  Workspace workspace_;
  Source x_;
  DepthwiseRows x_rows_;
  const float* mean_;
  bool streamed_;
  float* weights_;  // packed
  float* dw_;       // [slot][padded][k*k], packed as the weights
  float* sum_dz_;   // [slot][padded]
  float* sum_dz_centred_;
  float* rings_;  // [thread], each followed by the buffer of x_rows_
};

Backward::Backward(const CpuContext& context, const DepthwiseBackward& a)
    : args_(a),
      loops_(depthwise_loops()),
      before_((a.w.k - 1 - a.left) / a.stride),
      columns_(before_ + std::max(a.dy.dz.w, (a.x.y.w - 1 + a.left) / a.stride + 1)),
      plan_(a.x.y.n, a.x.y.h, a.x.y.c, long{ceil_div(a.w.k, a.stride)} * columns_),
      ring_(ceil_div(a.w.k, a.stride), before_, columns_, plan_.channels(), loops_.lanes),
      workspace_(context, "depthwise_backward"),
      x_(with_channels(workspace_, a.x)),
      x_rows_(context, workspace_, a.x.y, a.expansion, plan_),
      mean_(a.dx.mean ? a.dx.mean : filled(workspace_, a.x.y.c, 0)),
      streamed_(a.dx.dz && a.dx.how == Write::overwrite && streams_past_caches(a.dx.dz)),
      weights_(workspace_.take(long{plan_.padded()} * a.w.k * a.w.k)),
      dw_(workspace_.take(long{plan_.slots()} * plan_.padded() * a.w.k * a.w.k)),
      sum_dz_(filled(workspace_, long{plan_.slots()} * plan_.padded(), 0)),
      sum_dz_centred_(filled(workspace_, long{plan_.slots()} * plan_.padded(), 0)),
      rings_(filled(workspace_, context.threads * scratch(), 0)) {}

void Backward::load_dy(const DepthwiseTile& tile, int n, int p, float* out) const {
  const Incoming& dy = args_.dy;
  const long at = row_offset(dy.dz, n, p) + tile.c0;
  // Without dz there is a spread alone: whatever is read counts nothing then.
  IncomingRow row;
  row.shape = {dy.dz.w, tile.c, dy.dz.c};
  row.dz = dy.dz ? dy.dz.f32() + at : dy.y.f32() + at;
  if (dy.ca) {
    row.y = dy.y.f32() + at;
    row.ca = dy.ca + tile.c0;
    row.cb = dy.cb + tile.c0;
    row.cc = dy.cc + tile.c0;
  }
  if (const Deferred& deferred = dy.deferred; deferred.scale) {
    row.weight = dy.dz ? deferred.weight : 0;
    row.spread = deferred.spread ? deferred.spread + long{n} * dy.dz.c + tile.c0 : nullptr;
    row.scale = deferred.scale + tile.c0;
    row.shift = deferred.shift + tile.c0;
    row.act = deferred.act;
  }
  row.out = out;
  row.block = ring_.block;
  loops_.incoming(row);
}

/// The next rows of x and dx, and the rows of dy that come into reach: with stride 2 two rows of
/// dy, as wide as one of x together, every fourth row. Beyond an image the next one begins.
RowsAhead Backward::ahead(const DepthwiseTile& tile, int n, int h) const {
  const Incoming& dy = args_.dy;
  const long at = row_offset(x_.y, n, h + 1) + tile.c0;
  RowsAhead ahead;
  if (x_.y) ahead.add(x_.y.f32() + at);
  const Tensor &dz = args_.dx.dz, &addend = args_.dx.addend.da;
  if (addend) ahead.add(addend.f32() + at);
  if (dz && dz.data != addend.data && !streamed_) ahead.add(dz.f32() + at);
  const int next = h + 1 + args_.top;
  if (next % (args_.stride * args_.stride) == 0) {
    const long row = row_offset(dy.dz, n, next / args_.stride) + tile.c0;
    if (dy.dz) ahead.add(dy.dz.f32() + row);
    if (dy.ca) ahead.add(dy.y.f32() + row);
  }
  return ahead;
}

void Backward::tile(const DepthwiseTile& tile, float* rows) const {
  const int k = args_.w.k, taps = k * k, stride = args_.stride;
  const long slot = long{tile.slot} * plan_.padded() + tile.c0;
  BackwardRow row;
  row.shape = {x_.y.w, tile.c, x_.y.c};
  row.left = args_.left;
  row.block = ring_.block;
  row.weights = weights_ + long{tile.c0} * taps;
  row.dw = dw_ + slot * taps;
  row.scale = x_.scale + tile.c0;
  row.shift = x_.shift + tile.c0;
  row.act = x_.act;
  row.how = args_.dx.how;
  row.streamed = streamed_;
  row.weight = args_.dx.addend.weight;
  row.mean = mean_ + tile.c0;
  row.sum_dz = sum_dz_ + slot;
  row.sum_dz_centred = sum_dz_centred_ + slot;
  std::fill(row.dw, row.dw + long{plan_.channels()} * taps, 0.0f);
  for (int n = tile.n0; n < tile.n1; ++n) {
    int loaded = 0;
    for (int h = tile.row0; h < tile.row1; ++h) {
      const int padded = h + args_.top;  // = p*stride + i
      const int first = ceil_div(std::max(padded - k + 1, 0), stride);
      const int last = std::min(padded / stride + 1, args_.dy.dz.h);
      for (int p = std::max(first, loaded); p < last; ++p) load_dy(tile, n, p, ring_.at(rows, p));
      loaded = std::max(loaded, last);
      row.rows = std::max(last - first, 0);
      row.first = padded - (last - 1) * stride;
      for (int r = 0; r < row.rows; ++r) row.dy[r] = ring_.at(rows, last - 1 - r);
      const DepthwiseRows::Row x = x_rows_.at(tile, n, h, rows + ring_.floats());
      row.x = x.x;
      row.x_stride = x.stride;
      const long at = row_offset(x_.y, n, h) + tile.c0;
      row.dz = args_.dx.dz ? args_.dx.dz.f32() + at : nullptr;
      row.addend = args_.dx.addend.da ? args_.dx.addend.da.f32() + at : nullptr;
      row.ahead = ahead(tile, n, h);
      loops_.backward[k / 2 - 1][stride - 1](row);
    }
  }
}

void Backward::add_dw(CpuContext& context) const {
  const int taps = args_.w.k * args_.w.k, lanes = loops_.lanes, c = x_.y.c;
  parallel(context, ceil_div(c, lanes), [&](long block, int) {
    const long c0 = block * lanes;
    for (int tap = 0; tap < taps; ++tap) {
      add_weight_grad({.chunks = plan_.slots(),
                       .stride = long{plan_.padded()} * taps,
                       .partial = dw_ + c0 * taps + tap * lanes,
                       .c = static_cast<int>(std::min<long>(lanes, c - c0)),
                       .decay = args_.decay,
                       .w = args_.w.f32() + long{tap} * args_.w.in.max + c0,
                       .dw = args_.dw.f32() + long{tap} * args_.dw.in.max + c0});
    }
  });
}

/// out (+)= factor * sum of the slots of `parts`; factor null: 1.
void Backward::add_slots(float* parts, const float* factor, float* out) const {
  const int c = x_.y.c;
  for (int slot = 1; slot < plan_.slots(); ++slot) {
    const float* part = parts + long{slot} * plan_.padded();
    for (int i = 0; i < c; ++i) parts[i] += part[i];
  }
  for (int i = 0; i < c; ++i) {
    const float sum = factor ? factor[i] * parts[i] : parts[i];
    out[i] = args_.dx.how == Write::accumulate ? out[i] + sum : sum;
  }
}

void Backward::run(CpuContext& context) const {
  x_rows_.pack(context);
  parallel(context, plan_.padded() / loops_.lanes,
           [&](long block, int) { pack_weights(args_.w, block, loops_.lanes, weights_); });
  parallel(context, plan_.tiles(), [&](long index, int slot) {
    tile(plan_[static_cast<int>(index)], rings_ + slot * scratch());
    // Streamed stores are ordered by fences only.
    if (streamed_) std::atomic_thread_fence(std::memory_order_seq_cst);
  });
  if (args_.dw) add_dw(context);
  if (!args_.dx.dz || !args_.dx.mean) return;
  add_slots(sum_dz_, nullptr, args_.dx.sum_dz);
  add_slots(sum_dz_centred_, args_.dx.inv_std, args_.dx.sum_dz_xhat);
}

void check_incoming(const char* kernel, const Incoming& dy) {
  const Deferred& deferred = dy.deferred;
  if (dy.ca) check_same_shape(kernel, "dy.y", dy.y, dy.dz);
  require(!dy.ca == !dy.cb && !dy.ca == !dy.cc, kernel, ": ca, cb and cc go together");
  require(!deferred.scale || (dy.ca && deferred.shift), kernel,
          ": a deferred gradient needs a shift, and ca with the raw output");
  require(dy.dz || (deferred.scale && deferred.spread), kernel,
          ": dz has no memory; pass a tensor or a deferred spread");
  if (dy.dz) check_same_shape(kernel, "dz", dy.dz, dy.dz);
}

}  // namespace

void depthwise_backward(CpuContext& context, const DepthwiseBackward& args) {
  const char* kernel = "depthwise_backward";
  check_depthwise({kernel, args.x, args.w, args.stride, args.top, args.left, args.dy.dz});
  check_rows(kernel, args.x.y, args.expansion);
  check_incoming(kernel, args.dy);
  require(!args.dw || (args.dw.in.now == args.w.in.now && args.dw.k == args.w.k), kernel,
          ": dw is not shaped like w");
  if (args.dx.dz) check_same_shape(kernel, "dx", args.dx.dz, args.x.y);
  check_addend(kernel, args.dx);
  Backward(context, args).run(context);
}

}  // namespace cpu
}  // namespace tunas::kernels
