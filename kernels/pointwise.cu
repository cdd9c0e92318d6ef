// Pointwise forward (pointwise.h), bf16 on tensor cores, float without them (gemm.cuh): A is the
// source, normalised, activated and gated on load, B the filter's prefix. A block keeps its columns
// and takes row tiles in turn, so that it leaves the moments of a channel once, [blocks][4][c],
// merged by a second kernel. The output is stored as it is accumulated where y is float, and not at
// all where only its moments are wanted.
#include "kernels/pointwise.h"

#include "kernels/gemm.cuh"
#include "kernels/library.h"
#include "kernels/moments.cuh"

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

template <class T, class Y, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    pointwise_kernel(SourceOperand<T> u, WeightOperand<T> w, PointwiseOutput<Y> out) {
  using Tile = FinishedTile<kColumns>;
  auto* tile = dynamic_shared<float>();
  const int first = static_cast<int>(blockIdx.x) * kColumns;
  const int channel = first + Tile::lane() * kGemmPack;
  const bool idle = channel >= out.c;
  __shared__ float pivots[kColumns];  // of the moments: the block's first row
  float sum[kGemmPack] = {}, squares[kGemmPack] = {};
  float count = 0;
  const int tiles = (u.lines + kGemmRows - 1) / kGemmRows, step = static_cast<int>(gridDim.y);
  const int t0 = static_cast<int>(blockIdx.y);
  ForwardGemm<T, kColumns> gemm(u, w, t0 * kGemmRows, first, 0);
  for (int t = t0; t < tiles; t += step) {
    Accumulators<kColumns> acc;
    acc.clear();
    gemm.run(t * kGemmRows, t + step < tiles ? (t + step) * kGemmRows : -1, first, 0, w.width,
             dynamic_shared<T>(), acc);
    Tile::write(acc, tile);
    if (t == t0) {
      if (threadIdx.x < kColumns) pivots[threadIdx.x] = tile[threadIdx.x];
      __syncthreads();
    }
    float bias[kGemmPack], pivot[kGemmPack];
#pragma unroll
    for (int i = 0; i < kGemmPack; ++i) {
      bias[i] = out.bias && channel + i < out.used ? out.bias[channel + i] : 0.0f;
      pivot[i] = pivots[Tile::lane() * kGemmPack + i];
    }
#pragma unroll 2
    for (int r = Tile::slot(); r < kGemmRows; r += Tile::kSlots) {
      const int row = t * kGemmRows + r;
      if (row >= u.lines || idle) break;
      float v[kGemmPack];
      Tile::read(tile, r, v);
      count += 1;
#pragma unroll
      for (int i = 0; i < kGemmPack; ++i) {
        const float d = v[i] - pivot[i];
        sum[i] += d;
        squares[i] += d * d;
        v[i] += bias[i];
      }
      if (out.y) store(out.y + static_cast<long>(row) * out.c + channel, v);
    }
    __syncthreads();
  }
  if (!out.partial) return;
  float* partial = out.partial + static_cast<long>(blockIdx.y) * kMomentRows * out.c;
  const auto emit = [&](int which) {
    return [=](int i, int lane, float total) {
      const int at = first + lane * kGemmPack + i;
      if (at < out.c) partial[which * out.c + at] = total;
    };
  };
  float counts[kGemmPack];
#pragma unroll
  for (float& n : counts) n = count;
  sum_slots(counts, tile, Tile::kLanes, Tile::kSlots, emit(0));
  sum_slots(sum, tile, Tile::kLanes, Tile::kSlots, emit(2));
  sum_slots(squares, tile, Tile::kLanes, Tile::kSlots, emit(3));
  const int at = first + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kColumns && at < out.c) {
    const float bias = out.bias && at < out.used ? out.bias[at] : 0.0f;
    partial[out.c + at] = pivots[threadIdx.x] + bias;
  }
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
    constexpr int kBytes =
        larger(ForwardGemm<T, columns()>::kSharedBytes, FinishedTile<columns()>::kBytes);
    launch(context, "pointwise", pointwise_kernel<T, Y, columns()>,
           {dim3(across, down), dim3(kGemmThreads), kBytes}, u, w, out);
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
