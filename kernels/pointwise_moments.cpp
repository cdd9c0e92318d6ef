#include "kernels/pointwise_moments.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"
#include "kernels/pointwise_tiles.h"

namespace tunas::kernels::cpu {
namespace {

constexpr int kPivotRows = 8;          // a power of two: of integers the pivot is exact
constexpr long kTileBytes = 32 << 10;  // of v
constexpr int kTaskRows = 32;          // of K and of w

}  // namespace

SourceMoments::SourceMoments(const CpuContext& context, Workspace& workspace, const Source& x,
                             const Filter& w, long chunks)
    : x_(x),
      w_(w),
      gemm_(gemm(context)),
      k_(w.in.now),
      chunks_(chunks),
      stride_(whole_lines(long{k_} * k_ + k_)),
      pivot_(workspace.take((1L + kPivotRows) * k_)),
      partial_(workspace.take(chunks * stride_)),
      moments_(workspace.take(long{k_} * k_)),
      packed_(workspace.take(long{k_} * k_)),
      product_(workspace.take(long{w.out.now} * k_)) {}

void SourceMoments::choose_pivot() {
  float* const u = pivot_ + k_;
  for (int i = 0; i < kPivotRows; ++i) {
    const Strips::Strip row{part_begin(x_.y.rows(), i, kPivotRows), 1, 0, false};
    pointwise_loops().load_source(load_strip(x_, row, 0, k_, u + long{i} * k_));
  }
  std::fill_n(pivot_, k_, 0.0f);
  pointwise_loops().sum_rows({kPivotRows, k_, u, k_, pivot_});
  for (int i = 0; i < k_; ++i) pivot_[i] *= 1.0f / kPivotRows;
}

void SourceMoments::add(long chunk, int rows, const float* v, Write how) const {
  float* const moments = partial_ + chunk * stride_;
  float* const sum = moments + long{k_} * k_;
  if (how == Write::overwrite) std::fill_n(sum, k_, 0.0f);
  pointwise_loops().sum_rows({rows, k_, v, k_, sum});
  gemm_.multiply_transposed({k_, k_, rows, v, k_, v, k_, how, moments, k_, {}});
}

void SourceMoments::add_up(CpuContext& context) {
  const double rows = static_cast<double>(x_.y.rows());
  const auto sum_of = [this](long at) {
    double sum = 0;
    for (long q = 0; q < chunks_; ++q) sum += partial_[q * stride_ + at];
    return sum;
  };
  std::array<double, kMaxExpanded> sum;
  for (int i = 0; i < k_; ++i) {
    sum[i] = sum_of(long{k_} * k_ + i);
    mean_[i] = pivot_[i] + sum[i] / rows;
  }
  parallel(context, k_, [&](long i, int) {
    for (int j = 0; j < k_; ++j) {
      moments_[i * k_ + j] = static_cast<float>(sum_of(i * k_ + j) - sum[i] * sum[j] / rows);
    }
  });
  const Pack pack{moments_, k_, 1, k_, k_, packed_};
  for (int p = 0; p < gemm_.panels.count(k_); ++p) gemm_.pack(pack, p);
}

const float* SourceMoments::multiply(int begin, int end) const {
  Multiply product;
  product.m = end - begin;
  product.n = product.k = k_;
  product.a = w_.f32() + long{begin} * w_.in.max;
  product.lda = w_.in.max;
  product.b = packed_;
  product.c = product_ + long{begin} * k_;
  product.ldc = k_;
  gemm_.multiply(product);
  return product.c;
}

namespace {

void moments_of_rows(const SourceMoments& source, const PointwiseForward& args, int begin,
                     int end) {
  const int k = args.w.in.now;
  const double rows = static_cast<double>(args.x.y.rows());
  const float* product = source.multiply(begin, end);
  for (int o = begin; o < end; ++o, product += k) {
    const float* w = args.w.f32() + long{o} * args.w.in.max;
    double mean = 0, m2 = 0;
    for (int i = 0; i < k; ++i) {
      mean += w[i] * source.mean(i);
      m2 += double{w[i]} * product[i];
    }
    args.moments.mean[o] = static_cast<float>(mean);
    args.moments.variance[o] = static_cast<float>(std::max(m2, 0.0) / rows);
  }
}

}  // namespace

void check_expanded(const char* kernel, const Source& x) {
  require(!x.gate, kernel, ": the source of an output that is not stored takes no gate");
  require(x.y.c <= kMaxExpanded, kernel, ": an output that is not stored takes a source of ",
          kMaxExpanded, " channels at most; this one has ", x.y.c);
}

void pointwise_moments(CpuContext& context, const PointwiseForward& args) {
  const Tensor& x = args.x.y;
  const int k = args.w.in.now;
  const Tiles tiles(x, tile_rows(kTileBytes, k), false);
  const long chunks = std::min(tiles.count(), kMaxChunks);
  const long scratch = whole_lines(long{tiles.rows} * k);
  Workspace workspace(context, "pointwise");
  SourceMoments source(context, workspace, args.x, args.w, chunks);
  float* const scratches = workspace.take(scratch * context.threads);
  source.choose_pivot();
  parallel(context, chunks, [&](long chunk, int slot) {
    float* const v = scratches + slot * scratch;
    const long first = part_begin(tiles.count(), chunk, chunks);
    const long last = part_begin(tiles.count(), chunk + 1, chunks);
    for (long t = first; t < last; ++t) {
      const Tiles::Tile tile = tiles[t];
      LoadSource load = load_strip(args.x, {tile.begin, tile.rows, 0, false}, 0, k, v);
      load.pivot = source.pivot();
      pointwise_loops().load_source(load);
      source.add(chunk, tile.rows, v, t == first ? Write::overwrite : Write::accumulate);
    }
  });
  source.add_up(context);
  parallel(context, (args.w.out.now + kTaskRows - 1) / kTaskRows, [&](long task, int) {
    const int begin = static_cast<int>(task) * kTaskRows;
    moments_of_rows(source, args, begin, std::min(begin + kTaskRows, args.w.out.now));
  });
}

}  // namespace tunas::kernels::cpu
