// Pointwise backward (pointwise.h), two products (gemm.cuh), of bf16 on tensor cores:
//
//   dgrad  du = dy*w      A: dy, made of dz and y on load; the epilogue makes dz of the input
//   wgrad  dw = dy^T*u    K is the rows, cut into chunks; partials [chunk][out][in] added in order
//
// Both read dz, y and x, so the bytes are up to 4*out + 3*in instead of the floor's 2*(out + in);
// one kernel for both is the next rung. A gated source costs one more pass over du and x, which
// sums dgate per image and multiplies du by the gate in place.
#include "kernels/gemm.cuh"
#include "kernels/library.h"
#include "kernels/pointwise.h"
#include "kernels/rows.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kBlocks = 528, kWgradBlocks = 264;

template <class T, int kColumns>
using DgradGemm = Gemm<IncomingOperand<T>, Order::along, WeightOperand<T>, Order::across, kColumns>;
template <class T, int kColumns>
using WgradGemm =
    Gemm<IncomingOperand<T>, Order::across, SourceOperand<T>, Order::across, kColumns>;

template <class T, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    dgrad_kernel(IncomingOperand<T> dy, WeightOperand<T> w, Source x, SourceGrad dx,
                 float* partial) {
  using Tile = FinishedTile<kColumns>;
  auto* tile = dynamic_shared<float>();
  const int first = static_cast<int>(blockIdx.x) * kColumns, c = w.width;
  const bool idle = first + Tile::lane() * kGemmPack >= c;
  const int channel = idle ? 0 : first + Tile::lane() * kGemmPack;
  float s1[kGemmPack] = {}, s2[kGemmPack] = {};
  const int tiles = (dy.lines + kGemmRows - 1) / kGemmRows, step = static_cast<int>(gridDim.y);
  const int t0 = static_cast<int>(blockIdx.y);
  DgradGemm<T, kColumns> gemm(dy, w, t0 * kGemmRows, first, 0);
  for (int t = t0; t < tiles; t += step) {
    Accumulators<kColumns> acc;
    acc.clear();
    gemm.run(t * kGemmRows, t + step < tiles ? (t + step) * kGemmRows : -1, first, 0, dy.width,
             dynamic_shared<T>(), acc);
    Tile::write(acc, tile);
    const Reader<kGemmPack> reader(x, channel);
    GradWriter<T, kGemmPack> writer(dx, channel);
#pragma unroll 1
    for (int r = Tile::slot(); r < kGemmRows; r += Tile::kSlots) {
      if (t * kGemmRows + r >= dy.lines || idle) break;
      const long row = t * kGemmRows + r;
      float du[kGemmPack], y[kGemmPack];
      Tile::read(tile, r, du);
      if (x.gate) {
        store(writer.dz + row * c + channel, du);
      } else {
        load(static_cast<const T*>(x.y.data) + row * c + channel, y);
        writer.put(row * c + channel, reader, y, du);
      }
    }
#pragma unroll
    for (int i = 0; i < kGemmPack; ++i) {
      s1[i] += writer.s1[i];
      s2[i] += writer.s2[i];
    }
    __syncthreads();
  }
  if (!partial) return;
  float* out = partial + static_cast<long>(blockIdx.y) * 2 * c;
  const auto emit = [&](int which) {
    return [=](int i, int lane, float sum) {
      const int at = first + lane * kGemmPack + i;
      if (at < c) out[which * c + at] = sum;
    };
  };
  sum_slots(s1, tile, Tile::kLanes, Tile::kSlots, emit(0));
  sum_slots(s2, tile, Tile::kLanes, Tile::kSlots, emit(1));
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    wgrad_kernel(IncomingOperand<T> dy, SourceOperand<T> u, int out, int rows_each,
                 float* partial) {
  const int begin = static_cast<int>(blockIdx.z) * rows_each, rows = dy.lines;
  const int end = begin + rows_each < rows ? begin + rows_each : rows;
  const int o0 = static_cast<int>(blockIdx.y) * kGemmRows;
  const int i0 = static_cast<int>(blockIdx.x) * kColumns;
  Accumulators<kColumns> acc;
  acc.clear();
  dy.lines = u.lines = end;
  WgradGemm<T, kColumns> gemm(dy, u, o0, i0, begin);
  gemm.run(o0, -1, i0, begin, end, dynamic_shared<T>(), acc);
  float* to = partial + static_cast<long>(blockIdx.z) * out * u.width;
  acc.each([&](int row, int column, float v0, float v1) {
    if (o0 + row >= out || i0 + column >= u.width) return;
    *reinterpret_cast<float2*>(to + static_cast<long>(o0 + row) * u.width + i0 + column) = {v0, v1};
  });
}

/// dgate[n][c] = sum over pixels of du*a, and du <- du*gate in place; one block an image.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    gate_pass_kernel(Source x, SourceGrad dx, RowCut rows) {
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0;
  const Reader<kRowPack> reader(x, channel);
  const auto* y = static_cast<const T*>(x.y.data);
  auto* dz = static_cast<T*>(dx.dz.data);
  float gate[kRowPack], sum[kRowPack] = {};
  load(x.gate + static_cast<long>(span.image) * c + channel, gate);
#pragma unroll 2
  for (long row = span.begin + span.slot; row < span.end; row += rows.cut.slots) {
    const long at = row * c + channel;
    float a[kRowPack], du[kRowPack];
    load(y + at, a);
    load(dz + at, du);
    reader.value(a);
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) {
      sum[i] += du[i] * a[i];
      du[i] *= gate[i];
    }
    store(dz + at, du);
  }
  const int first = static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack;
  float* out = dx.dgate + static_cast<long>(span.image) * c;
  sum_slots(sum, buffer, rows.cut.lanes, rows.cut.slots, [&](int i, int lane, float total) {
    if (first + lane * kRowPack + i < c) out[first + lane * kRowPack + i] = total;
  });
}

/// dbias partials: the sum of dy over a chunk of rows.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    bias_kernel(Incoming dy, RowCut rows, float* partial) {
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0;
  const IncomingReader<kRowPack> reader(dy, channel);
  float sum[kRowPack] = {};
  for (long row = span.begin + span.slot; row < span.end; row += rows.cut.slots) {
    float dz[kRowPack], y[kRowPack] = {};
    load(static_cast<const T*>(dy.dz.data) + row * c + channel, dz);
    if (dy.ca) load(static_cast<const T*>(dy.y.data) + row * c + channel, y);
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) sum[i] += reader.value(i, dz[i], y[i]);
  }
  const int first = static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack;
  float* out = partial + static_cast<long>(blockIdx.y) * c;
  sum_slots(sum, buffer, rows.cut.lanes, rows.cut.slots, [&](int i, int lane, float total) {
    if (first + lane * kRowPack + i < c) out[first + lane * kRowPack + i] = total;
  });
}

template <class T>
void dgrad(CudaContext& context, const PointwiseBackward& args, const IncomingOperand<T>& dy) {
  const int c = args.w.in.now;
  const bool sums_wanted = args.dx.mean && !args.x.gate;
  with_columns<T>(c, [&](auto columns) {
    const int across = ceil_div(c, columns());
    const int tiles = ceil_div(dy.lines, kGemmRows);
    const int down = ceil_div(tiles, ceil_div(tiles, larger(kBlocks / across, 1)));
    float* partial =
        sums_wanted ? scratch(context, static_cast<std::size_t>(down) * 2 * c) : nullptr;
    const WeightOperand<T> w{static_cast<const T*>(args.w.data), args.w.out.now, c, args.w.in.max};
    constexpr int kBytes =
        larger(DgradGemm<T, columns()>::kSharedBytes, FinishedTile<columns()>::kBytes);
    launch(context, "pointwise dgrad", dgrad_kernel<T, columns()>,
           {dim3(across, down), dim3(kGemmThreads), kBytes}, dy, w, args.x, args.dx, partial);
    if (!sums_wanted) return;
    OrderedSums sums;
    add_source_sums(sums, args.dx, partial, down, 2L * c, c);
    add_in_order(context, sums);
  });
}

template <class T>
void gate_pass(CudaContext& context, const PointwiseBackward& args) {
  const Tensor& x = args.x.y;
  RowCut rows = cut_rows(x.rows(), x.c, x.n);
  rows.parts = 1;
  launch(context, "gate pass", gate_pass_kernel<T>, rows.shape(), args.x, args.dx, rows);
}

template <class T>
void wgrad(CudaContext& context, const PointwiseBackward& args, const IncomingOperand<T>& dy) {
  const int in = args.w.in.now, out = args.w.out.now;
  const SourceOperand<T> u{args.x, dy.lines, in, args.x.y.h * args.x.y.w};
  with_columns<T>(in, [&](auto columns) {
    const int tiles = ceil_div(in, columns()) * ceil_div(out, kGemmRows);
    const std::size_t size = static_cast<std::size_t>(in) * out;
    const auto fit = static_cast<int>(context.workspace_bytes / sizeof(float) / size);
    int chunks = larger(kWgradBlocks / tiles, 1);
    if (chunks > fit) chunks = fit;
    const int depth = ceil_div(ceil_div(dy.lines, kGemmDepth<T>), larger(chunks, 1));
    chunks = ceil_div(dy.lines, depth * kGemmDepth<T>);
    float* partial = scratch(context, chunks * size);
    launch(context, "pointwise wgrad", wgrad_kernel<T, columns()>,
           {dim3(ceil_div(in, columns()), ceil_div(out, kGemmRows), chunks), dim3(kGemmThreads),
            WgradGemm<T, columns()>::kSharedBytes},
           dy, u, out, depth * kGemmDepth<T>, partial);
    OrderedSum dw{partial, chunks, static_cast<long>(size), out, in, args.dw.in.max, args.dw.f32()};
    if (args.decay != 0) {
      dw.w = args.w.data;
      dw.w_type = args.w.type;
      dw.decay = args.decay;
    }
    OrderedSums sums;
    sums.add(dw);
    add_in_order(context, sums);
  });
}

template <class T>
void bias_grad(CudaContext& context, const PointwiseBackward& args) {
  const Tensor& dz = args.dy.dz;
  const RowCut rows = cut_rows(dz.rows(), dz.c);
  float* partial = scratch(context, static_cast<std::size_t>(rows.chunks()) * dz.c);
  launch(context, "bias gradient", bias_kernel<T>, rows.shape(), args.dy, rows, partial);
  OrderedSums sums;
  sums.add({partial, rows.chunks(), dz.c, 1, args.w.out.now, args.w.out.now, args.dbias});
  add_in_order(context, sums);
}

}  // namespace

void pointwise_backward(CudaContext& context, const PointwiseBackward& args) {
  const Tensor& dz = args.dy.dz;
  require(dz.type == args.x.y.type && args.w.type == args.x.y.type,
          "pointwise backward on CUDA takes gradient, source and weights of one type");
  require(!args.x.gate || args.dx.how == Write::overwrite,
          "the gradient of a gated source is overwritten, never accumulated");
  with_type(dz.type, [&](auto t) {
    using T = decltype(t);
    const IncomingOperand<T> dy{args.dy, static_cast<int>(dz.rows()), dz.c};
    if (args.dx.dz) {
      if (!library::pointwise_dgrad(context, args)) dgrad(context, args, dy);
      if (args.x.gate) gate_pass<T>(context, args);
    }
    if (args.dw && !library::pointwise_wgrad(context, args)) wgrad(context, args, dy);
    if (args.dbias) bias_grad<T>(context, args);
  });
}

}  // namespace tunas::kernels::cuda
