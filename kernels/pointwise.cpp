// Pointwise convolution on the CPU: formulas in pointwise.h, tiles and strips in pointwise_tiles.h.
//
// Rows are cut into tiles and, where there are few rows (the fully connected layers), columns into
// blocks. A strip of rows is loaded (normalised, activated, gated) and multiplied; the product
// takes the sums that the moments of its tile need while the result is in registers.
#include "kernels/pointwise.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"
#include "kernels/pointwise_moments.h"
#include "kernels/pointwise_tiles.h"

namespace tunas::kernels {

Cost cost(const PointwiseForward& args) {
  const double in = args.w.in.now, w = in * args.w.out.now;
  const double rows = static_cast<double>(args.x.y.rows());
  const double flops = args.y ? 2 * w * rows : 2 * in * in * rows + 2 * w * in;
  return {flops, bytes_of(args.x.y) + 4 * w, bytes_of(args.y)};
}

namespace cpu {
namespace {

constexpr long kTileBytes = 256 << 10;  // of x and y: few tiles, so that their moments merge fast

void check(const PointwiseForward& args) {
  const Tensor& x = args.x.y;
  check_pointwise("pointwise", args.x, args.w);
  check_absent_shape("pointwise", "y", args.y, x.n, x.h, x.w, round_up_8(args.w.out.now));
  require(!args.moments.mean == !args.moments.variance,
          "pointwise: mean and variance of y go together");
  if (args.y) return;
  require(args.moments.mean && !args.bias,
          "pointwise: of a y that is not stored only the moments can be wanted, without a bias");
  check_expanded("pointwise", args.x);
}

// The forward pass: its plan, which follows from the shapes, and its pieces of the workspace.
class Forward {
 public:
  Forward(CpuContext& context, const PointwiseForward& args);
  void run();

 private:
  void tile_of_block(long t, int block, float* u);

  CpuContext& context_;
  const PointwiseForward& args_;
  const GemmLoops& gemm_ = gemm(context_);
  const PointwiseLoops& loops_ = pointwise_loops();
  const int k_, n_;  // columns of x and of y
  const Tiles tiles_;
  const Blocks blocks_;
  const long groups_;  // of consecutive tiles
  const long scratch_;
  Workspace workspace_;
  const PackedBlocks w_;
  float* const bias_;
  float* const sums_;  // [tile][3][n]
  float* const scratches_;
};

Forward::Forward(CpuContext& context, const PointwiseForward& args)
    : context_(context),
      args_(args),
      k_(args.w.in.now),
      n_(round_up_8(args.w.out.now)),
      tiles_(args.y, tile_rows(kTileBytes, k_ + n_), args.x.gate != nullptr),
      blocks_(n_, static_cast<int>(std::clamp(kMinTasks / tiles_.count(), 1L, n_ / 32 + 1L))),
      groups_(std::min(tiles_.count(), kMaxChunks)),
      scratch_(whole_lines(long{kStripRows} * k_)),
      workspace_(context, "pointwise"),
      w_{blocks_,
         {args.w.f32(), 1, args.w.in.max, k_, args.w.out.now,
          workspace_.take(static_cast<long>(k_) * n_)}},
      bias_(args.bias ? workspace_.take(n_) : nullptr),
      sums_(args.moments.mean ? workspace_.take(tiles_.count() * 3 * n_) : nullptr),
      scratches_(workspace_.take(scratch_ * context.threads)) {
  if (bias_) std::fill(std::copy_n(args.bias, args.w.out.now, bias_), bias_ + n_, 0.0f);
}

void Forward::run() {
  w_.pack(context_, gemm_);
  parallel(context_, groups_ * blocks_.count, [this](long task, int slot) {
    const long group = task / blocks_.count;
    const int block = static_cast<int>(task % blocks_.count);
    const long end = part_begin(tiles_.count(), group + 1, groups_);
    for (long t = part_begin(tiles_.count(), group, groups_); t < end; ++t) {
      tile_of_block(t, block, scratches_ + slot * scratch_);
    }
  });
  if (sums_) {
    parallel(context_, (n_ + 15) / 16, [this](long i, int) {
      const int begin = static_cast<int>(16 * i);
      merge_moments(tiles_, sums_, n_, begin, std::min(begin + 16, n_), args_.moments);
    });
  }
}

void Forward::tile_of_block(long t, int block, float* u) {
  const int begin = blocks_.begin(block), size = blocks_.size(block);
  const bool plain = is_plain(args_.x);
  Multiply product;
  product.n = size;
  product.k = k_;
  product.lda = k_;
  product.b = w_[block];
  product.bias = bias_ ? bias_ + begin : nullptr;
  product.ldc = n_;
  float* sums = sums_ ? sums_ + t * 3 * n_ + begin : nullptr;
  if (sums) product.sums = {true, sums, sums + n_, sums + 2 * n_};
  const Tiles::Tile tile = tiles_[t];
  Strips strips(args_.x.y, args_.x.gate != nullptr, tile);
  for (Strips::Strip strip; strips.next(strip); product.sums.start = false) {
    if (!plain) loops_.load_source(load_strip(args_.x, strip, 0, k_, u));
    product.m = strip.rows;
    product.a = plain ? args_.x.y.f32() + strip.begin * k_ : u;
    product.c = args_.y.f32() + strip.begin * n_ + begin;
    product.ahead[0] = rows_ahead(args_.x.y, strip.begin + strip.rows, strip.rows);
    product.ahead[1] = rows_ahead(args_.y, strip.begin + strip.rows, strip.rows);
    gemm_.multiply(product);
  }
  if (sums) loops_.finish_moments({tile.rows, size, sums, sums + n_, sums + 2 * n_});
}

}  // namespace

void pointwise(CpuContext& context, const PointwiseForward& args) {
  check(args);
  if (!args.y) return pointwise_moments(context, args);
  Forward(context, args).run();
}

}  // namespace cpu
}  // namespace tunas::kernels
