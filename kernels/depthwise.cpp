// Depthwise convolution on the CPU, forward. Each row of x is loaded or made of its expansion,
// normalised and activated once into the ring; an output row follows as soon as its window is
// there. Tiles leave (mean, M2) pairs, which are merged in tile order.
#include "kernels/depthwise.h"

#include <algorithm>
#include <atomic>

#include "kernels/check.h"
#include "kernels/depthwise_rows.h"
#include "kernels/parallel.h"

namespace tunas::kernels {

Cost cost(const Expansion& expansion) {
  if (!expansion.w) return {};
  const double w = static_cast<double>(expansion.w.out.now) * expansion.w.in.now;
  const Tensor& x = expansion.x.y;
  return {2 * w * static_cast<double>(x.rows()),
          bytes_of(x) + w * static_cast<double>(size_of(expansion.w.type)), 0};
}

Cost cost(const DepthwiseForward& args) {
  const double taps = static_cast<double>(args.w.k) * args.w.k;
  Cost cost{2 * taps * static_cast<double>(args.y.size()), bytes_of(args.x.y), bytes_of(args.y)};
  return cost += kernels::cost(args.expansion);
}

namespace cpu {
namespace {

/// (mean, M2) of the slots, merged in order (Chan): M2 = M2a + M2b + delta^2 * na*nb/(na + nb).
template <class Count>
void merge(const Moments& moments, int c, const DepthwisePlan& plan, const float* mean,
           const float* m2, const Count& count) {
  std::copy(mean, mean + c, moments.mean);
  std::copy(m2, m2 + c, moments.variance);
  double before = count(0);
  for (int slot = 1; slot < plan.slots(); ++slot) {
    mean += plan.padded();
    m2 += plan.padded();
    const double here = count(slot);
    const float share = static_cast<float>(here / (before + here));
    const float between = static_cast<float>(before * here / (before + here));
    for (int i = 0; i < c; ++i) {
      const float delta = mean[i] - moments.mean[i];
      moments.mean[i] += delta * share;
      moments.variance[i] += m2[i] + delta * delta * between;
    }
    before += here;
  }
  for (int i = 0; i < c; ++i) moments.variance[i] /= static_cast<float>(before);
}

class Forward {
 public:
  Forward(const CpuContext& context, const DepthwiseForward& a);
  void run(CpuContext& context) const;

 private:
  struct Fetches {
    RowsAhead loading, convolving;
  };

  void tile(const DepthwiseTile& tile, float* rows) const;
  void load(const DepthwiseTile& tile, int n, int h, float* rows, const RowsAhead& ahead) const;
  Fetches ahead(const DepthwiseTile& tile, int n, int p) const;
  long scratch() const { return ring_.floats() + x_rows_.floats(); }

  const DepthwiseForward& args_;
  const DepthwiseLoops& loops_;
  int columns_;
  DepthwisePlan plan_;
  DepthwiseRing ring_;
  Workspace workspace_;
  Source x_;
  DepthwiseRows x_rows_;
  bool streamed_;
  float* weights_;  // packed
  float* mean_;     // [slot][padded]
  float* m2_;
  float* rings_;  // [thread], each followed by the buffer of x_rows_
};

Forward::Forward(const CpuContext& context, const DepthwiseForward& a)
    : args_(a),
      loops_(depthwise_loops()),
      columns_(std::max(a.left + a.x.y.w, (a.y.w - 1) * a.stride + a.w.k)),
      plan_(a.y.n, a.y.h, a.y.c, static_cast<long>(a.w.k) * columns_),
      ring_(a.w.k, a.left, columns_, plan_.channels(), loops_.lanes),
      workspace_(context, "depthwise"),
      x_(with_channels(workspace_, a.x)),
      x_rows_(context, workspace_, a.x.y, a.expansion, plan_),
      streamed_(streams_past_caches(a.y)),
      weights_(workspace_.take(long{plan_.padded()} * a.w.k * a.w.k)),
      mean_(filled(workspace_, long{plan_.slots()} * plan_.padded(), 0)),
      m2_(filled(workspace_, long{plan_.slots()} * plan_.padded(), 0)),
      rings_(filled(workspace_, context.threads * scratch(), 0)) {}

void Forward::load(const DepthwiseTile& tile, int n, int h, float* rows,
                   const RowsAhead& ahead) const {
  const DepthwiseRows::Row row = x_rows_.at(tile, n, h, rows + ring_.floats());
  loops_.source({.shape = {x_.y.w, tile.c, row.stride},
                 .y = row.x,
                 .scale = x_.scale + tile.c0,
                 .shift = x_.shift + tile.c0,
                 .act = x_.act,
                 .out = ring_.at(rows, h),
                 .block = ring_.block,
                 .ahead = ahead});
}

/// Of what the next output row begins with, loading fetches one row, convolving the others. What an
/// expansion reads it fetches itself.
Forward::Fetches Forward::ahead(const DepthwiseTile& tile, int n, int p) const {
  const Tensor& x = x_.y;
  const Tensor& y = args_.y;
  Fetches next;
  if (x) {
    const int h = p * args_.stride - args_.top + args_.w.k;
    const float* row = x.f32() + row_offset(x, n, h) + tile.c0;
    const long width = long{x.w} * x.c;
    if (args_.stride == 1) {
      next.convolving.add(row);
    } else {
      next.loading.add(row);
      next.convolving.add(row + width);
      next.convolving.add(row + width + long{y.w} * x.c);
    }
  }
  if (!streamed_) {
    RowsAhead& with = x && args_.stride == 1 ? next.loading : next.convolving;
    with.add(y.f32() + row_offset(y, n, p + 1) + tile.c0);
  }
  return next;
}

void Forward::tile(const DepthwiseTile& tile, float* rows) const {
  const int k = args_.w.k, stride = args_.stride;
  const Tensor& y = args_.y;
  const long slot = long{tile.slot} * plan_.padded() + tile.c0;
  ForwardRow row;
  row.shape = {y.w, tile.c, y.c};
  row.block = ring_.block;
  row.weights = weights_ + long{tile.c0} * k * k;
  row.streamed = streamed_;
  row.mean = mean_ + slot;
  row.m2 = m2_ + slot;
  for (int n = tile.n0; n < tile.n1; ++n) {
    int loaded = 0;
    for (int p = tile.row0; p < tile.row1; ++p) {
      const int window = p * stride - args_.top;
      const int first = std::max(window, 0), last = std::min(window + k, x_.y.h);
      const Fetches next = ahead(tile, n, p);
      for (int h = std::max(first, loaded); h < last; ++h) {
        load(tile, n, h, rows, h == last - 1 ? next.loading : RowsAhead{});
      }
      loaded = last;
      row.rows = last - first;
      row.first = first - window;
      for (int h = first; h < last; ++h) row.u[h - first] = ring_.at(rows, h) - ring_.before;
      row.y = y.f32() + row_offset(y, n, p) + tile.c0;
      row.ahead = next.convolving;
      loops_.forward[k / 2 - 1][stride - 1](row);
      row.count += static_cast<float>(y.w);
    }
  }
}

void Forward::run(CpuContext& context) const {
  x_rows_.pack(context);
  parallel(context, plan_.padded() / loops_.lanes,
           [&](long block, int) { pack_weights(args_.w, block, loops_.lanes, weights_); });
  parallel(context, plan_.tiles(), [&](long index, int slot) {
    tile(plan_[static_cast<int>(index)], rings_ + slot * scratch());
    // Streamed stores are ordered by fences only.
    if (streamed_) std::atomic_thread_fence(std::memory_order_seq_cst);
  });
  if (!args_.moments.mean) return;
  merge(args_.moments, args_.y.c, plan_, mean_, m2_, [&](int slot) {
    const DepthwiseTile tile = plan_[slot * plan_.groups()];
    return static_cast<double>(tile.n1 - tile.n0) * (tile.row1 - tile.row0) * args_.y.w;
  });
}

}  // namespace

void depthwise(CpuContext& context, const DepthwiseForward& args) {
  const char* kernel = "depthwise";
  check_depthwise({kernel, args.x, args.w, args.stride, args.top, args.left, args.y});
  check_rows(kernel, args.x.y, args.expansion);
  check_same_shape(kernel, "y", args.y, args.y);
  Forward(context, args).run(context);
}

}  // namespace cpu
}  // namespace tunas::kernels
