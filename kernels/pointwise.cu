// Pointwise forward (pointwise.h), bf16 on tensor cores, float without them (gemm.cuh): A is the
// source, normalised, activated and gated on load, B the filter's prefix. A block keeps its columns
// and takes row tiles in turn, so that it leaves the moments of a channel once, [blocks][4][c],
// merged by a second kernel. The output is stored as it is accumulated where y is float, and not at
// all where only its moments are wanted.
#include "kernels/pointwise.h"

#include "kernels/gemm.cuh"
#include "kernels/library.h"
#include "kernels/tile_moments.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kBlocks = 528;

template <class T, int kColumns>
using ForwardGemm = Gemm<SourceOperand<T>, Order::along, WeightOperand<T>, Order::along, kColumns>;

template <class Y>
struct PointwiseOutput {
  Y* y;
  const float* bias;
  int c, used;  // stored and computed columns
  float* partial;
};

template <class Y, class C>
__device__ inline void add_bias(const PointwiseOutput<Y>& out, int first, C& c) {
  const int at = first + C::first_column() + static_cast<int>(threadIdx.x) % 4 * 2;
  const float* from = out.bias + at;
  const int left = out.used - at;
#pragma unroll
  for (int n = 0; n < C::kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float bias = n * 8 + i < left ? from[n * 8 + i] : 0.0f;
#pragma unroll
      for (int m = 0; m < C::kDown; ++m) {
        c.v[m][n][i] += bias;
        c.v[m][n][i + 2] += bias;
      }
    }
  }
}

template <class T, class Y, int kColumns>
struct ForwardTile {
  using Product = ForwardGemm<T, kColumns>;
  using Output = FinishedTile<Y, kColumns>;
  // The stages, in whose place the finished tile stands, then the moments.
  static constexpr int kMoments = larger(Product::kSharedBytes, Output::kBytes);
  static constexpr int kSharedBytes = kMoments + TileMoments<kColumns>::kBytes;
};

template <class T, class Y, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    pointwise_kernel(SourceOperand<T> u, WeightOperand<T> w, PointwiseOutput<Y> out) {
  using Forward = ForwardTile<T, Y, kColumns>;
  auto* shared = dynamic_shared<char>();
  const int first = static_cast<int>(blockIdx.x) * kColumns, columns = out.c - first;
  const typename Forward::Output own(columns);
  const int channel = first + own.lane * kGemmPack;
  auto* tile = reinterpret_cast<Y*>(shared);
  const TileMoments<kColumns> moments(shared + Forward::kMoments);
  const int tiles = (u.lines + kGemmRows - 1) / kGemmRows, step = static_cast<int>(gridDim.y);
  const int t0 = static_cast<int>(blockIdx.y);
  ForwardGemm<T, kColumns> gemm(u, w, t0 * kGemmRows, first, 0);
  for (int t = t0; t < tiles; t += step) {
    Accumulators<kColumns> acc;
    acc.clear();
    gemm.run(t * kGemmRows, t + step < tiles ? (t + step) * kGemmRows : -1, first, 0, w.width,
             reinterpret_cast<T*>(shared), acc);
    const int left = u.lines - t * kGemmRows, rows = left < kGemmRows ? left : kGemmRows;
    if (out.partial) {
      if (t == t0) moments.start(acc);
      moments.put(acc, rows, columns);
    }
    if (!out.y) continue;
    if (out.bias) add_bias(out, first, acc);
    own.write(acc, tile);
    Y* y = out.y + static_cast<long>(t * kGemmRows + own.slot) * out.c + channel;
#pragma unroll 1
    for (int r = own.first_row(); r < rows; r += own.slots, y += own.slots * out.c) {
      *reinterpret_cast<Raw<Y, kGemmPack>*>(y) = own.read_raw(tile, r);
    }
    __syncthreads();
  }
  if (!out.partial) return;
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x), at = first + column;
  if (column >= kColumns || at >= out.c) return;
  const float bias = out.bias && at < out.used ? out.bias[at] : 0.0f;
  const float2 sums = moments.of(column);
  const bool short_one = (tiles - 1 - t0) % step == 0;  // the last tile is the block's
  const int count =
      ((tiles - 1 - t0) / step + 1) * kGemmRows - (short_one ? tiles * kGemmRows - u.lines : 0);
  const float row[kMomentRows] = {static_cast<float>(count), moments.pivots[column] + bias, sums.x,
                                  sums.y};
  float* partial = out.partial + static_cast<long>(blockIdx.y) * kMomentRows * out.c + at;
#pragma unroll
  for (int i = 0; i < kMomentRows; ++i) partial[i * out.c] = row[i];
}

template <class T, class Y>
void forward(CudaContext& context, const PointwiseForward& args) {
  const Tensor& x = args.x.y;
  const Tensor& y = args.y;
  with_columns<T>(y.c, [&](auto columns) {
    const int across = ceil_div(y.c, columns());
    const int tiles = ceil_div(x.rows(), kGemmRows);
    const int limit = larger(kBlocks / across, 1);
    const int down = ceil_div(tiles, ceil_div(tiles, limit));
    float* partial = args.moments.mean
                         ? scratch(context, static_cast<std::size_t>(down) * kMomentRows * y.c)
                         : nullptr;
    const SourceOperand<T> u{args.x, static_cast<int>(x.rows()), x.c, x.h * x.w};
    const WeightOperand<T> w{static_cast<const T*>(args.w.data), args.w.out.now, args.w.in.now,
                             args.w.in.max};
    const PointwiseOutput<Y> out{static_cast<Y*>(y.data), args.bias, y.c, args.w.out.now, partial};
    launch(context, "pointwise", pointwise_kernel<T, Y, columns()>,
           {dim3(across, down), dim3(kGemmThreads), ForwardTile<T, Y, columns()>::kSharedBytes}, u,
           w, out);
    if (partial) merge_moments(context, partial, down, y.c, args.moments);
  });
}

}  // namespace

void pointwise(CudaContext& context, const PointwiseForward& args) {
  const DType type = args.x.y.type;
  require(args.w.type == type, "pointwise on CUDA takes a source and weights of one type");
  require(args.y.type == type || args.y.type == DType::f32,
          "pointwise on CUDA leaves bf16 only where it read bf16");
  require(args.y.data || (args.moments.mean && !args.bias),
          "a pointwise output that is not stored leaves moments and has no bias");
  if (args.y.data && library::pointwise(context, args)) return;
  if (type == DType::f32) return forward<float, float>(context, args);
  with_type(args.y.type, [&](auto y) { forward<bf16, decltype(y)>(context, args); });
}

}  // namespace tunas::kernels::cuda
