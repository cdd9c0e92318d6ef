// Pointwise backward (pointwise.h): two products (gemm.cuh), of bf16 on tensor cores.
//
//   dgrad  du = dy*w      A: dy, made of dz and y on load; the epilogue makes dz of the input
//   wgrad  dw = dy^T*u    K is the rows, cut into chunks; partials [chunk][out][in] added in order
//
// Where both are wanted and dw is small, one kernel makes both of the same tiles
// (pointwise_joint.cu). The two here take all else, and floats; both read dz, y and x, so their
// bytes are up to 4*out + 3*in instead of the floor's 2*(out + in).
//
// Of an output that is not stored A is [dz | u | 1 1 1] and
//
//   du = A*[diag(ca)*w ; w^T*diag(cb)*w ; cc^T*w]        the last row as a sum of three bf16
//   A^T*u = [dz^T*u ; K ; sum u]                         of which a small kernel makes dw
#include "kernels/pointwise_backward.cuh"

#include "kernels/check.h"
#include "kernels/library.h"
#include "kernels/rows.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kBlocks = 528, kWgradBlocks = 264;

template <class A, int kColumns>
using DgradGemm =
    Gemm<A, Order::along, WeightOperand<typename A::Element>, Order::across, kColumns>;
template <class A, int kColumns>
using WgradGemm =
    Gemm<A, Order::across, SourceOperand<typename A::Element>, Order::across, kColumns>;

template <class A, int kColumns>
struct DgradTile {
  using T = typename A::Element;
  using Finished = FinishedGrad<kColumns>;
  using Epilogue = GradEpilogue<T, Finished>;
  // The stages, in whose place the finished tile stands, then its sums.
  static constexpr int kSums = larger(DgradGemm<A, kColumns>::kSharedBytes, Finished::kBytes);
  static constexpr int kSharedBytes = kSums + Epilogue::kBytes;
};

template <class A, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    dgrad_kernel(A a, WeightOperand<typename A::Element> w, Source x, SourceGrad dx,
                 RowChunks chunks, GradSums sums) {
  using T = typename A::Element;
  using Dgrad = DgradTile<A, kColumns>;
  auto* finished = dynamic_shared<float>();
  const int first = static_cast<int>(blockIdx.x) * kColumns, step = static_cast<int>(gridDim.y);
  const typename Dgrad::Epilogue epilogue(x, dx, sums, first, finished + Dgrad::kSums / 4);
  RowTile next = chunks.first_of(static_cast<int>(blockIdx.y));
  DgradGemm<A, kColumns> gemm(a, w, next.row, first, 0);
  while (next.chunk < chunks.count()) {
    const RowTile tile = next;
    next = chunks.after(tile, kGemmRows, step);
    Accumulators<kColumns> acc;
    acc.clear();
    gemm.run(tile.row, next.chunk < chunks.count() ? next.row : -1, first, 0, a.width,
             dynamic_shared<T>(), acc);
    Dgrad::Finished::write(acc, finished);
    const T* raw = static_cast<const T*>(x.y.data) + static_cast<long>(tile.row) * x.y.c + first;
    epilogue.put(tile, finished, raw, x.y.c);
    __syncthreads();
    if (next.chunk != tile.chunk) epilogue.leave_image(chunks, tile.chunk, finished);
  }
  epilogue.leave_whole(finished);
}

template <class A, int kColumns>
__global__ void __launch_bounds__(kGemmThreads, 2)
    wgrad_kernel(A a, SourceOperand<typename A::Element> u, int out, int rows_each,
                 float* partial) {
  const int begin = static_cast<int>(blockIdx.z) * rows_each, rows = a.lines;
  const int end = begin + rows_each < rows ? begin + rows_each : rows;
  const int o0 = static_cast<int>(blockIdx.y) * kGemmRows;
  const int i0 = static_cast<int>(blockIdx.x) * kColumns;
  Accumulators<kColumns> acc;
  acc.clear();
  a.lines = u.lines = end;
  WgradGemm<A, kColumns> gemm(a, u, o0, i0, begin);
  gemm.run(o0, -1, i0, begin, end, dynamic_shared<typename A::Element>(), acc);
  float* to = partial + static_cast<long>(blockIdx.z) * out * u.width;
  acc.each([&](int row, int column, float v0, float v1) {
    if (o0 + row >= out || i0 + column >= u.width) return;
    *reinterpret_cast<float2*>(to + static_cast<long>(o0 + row) * u.width + i0 + column) = {v0, v1};
  });
}

constexpr int kSide = 32;  // columns of a block of the two kernels below, kSlots threads each
constexpr int kSlots = kGemmThreads / kSide;

/// B of an output that is not stored, [lines][in], for A = [dz | u | 1 1 1 0 ...]. A block makes
/// eight lines of one kind; its warps share the sum over the output's channels.
template <class T>
__global__ void __launch_bounds__(kGemmThreads)
    expand_kernel(WeightOperand<T> w, Incoming dy, T* to) {
  __shared__ float buffer[kBatch * kGemmThreads];
  const int in = w.width, out = w.lines;
  const int line = static_cast<int>(blockIdx.y) * kGemmPack, row = line - out;
  const int slot = static_cast<int>(threadIdx.x) / kSide;
  const int first = static_cast<int>(blockIdx.x) * kSide;
  const int i = first + static_cast<int>(threadIdx.x) % kSide;
  float sum[kGemmPack] = {};
#pragma unroll 4
  for (int o = slot; o < out && i < in && row >= 0; o += kSlots) {
    const T* weights = w.w + static_cast<long>(o) * w.ld;
    float lines[kGemmPack] = {}, own[1];
    load(weights + i, own);
    if (row < in) load(weights + row, lines);
    const float factor = row < in ? dy.cb[o] * own[0] : dy.cc[o] * own[0];
#pragma unroll
    for (int k = 0; k < kGemmPack; ++k) sum[k] += factor * (row < in ? lines[k] : 1.0f);
  }
  sum_slots(sum, buffer, kSide, kSlots, [=](int k, int lane, float total) {
    const int column = first + lane;
    if (column >= in) return;
    float v[1] = {total};
    if (row < 0) {
      load(w.w + static_cast<long>(line + k) * w.ld + column, v);
      v[0] *= dy.ca[line + k];
    }
    for (int part = 0; part < k && row == in; ++part) {  // what the lines before leave of cc^T*w
      float rounded[1];
      T kept;
      store(&kept, v);
      load(&kept, rounded);
      v[0] = part < 2 ? v[0] - rounded[0] : 0;
    }
    store(to + static_cast<long>(line + k) * in + column, v);
  });
}

/// dw of the sums A^T*u: dw[o][i] += ca*S[o][i] + cb*(w*K)[o][i] + cc*sum u[i] + decay*w[o][i].
/// A thread has eight o.
template <class T>
__global__ void __launch_bounds__(kGemmThreads)
    contract_kernel(WeightOperand<T> w, Incoming dy, const float* sums, OrderedSum dw) {
  const int in = w.width, out = w.lines;
  const int slot = static_cast<int>(threadIdx.x) / kSide;
  const int o0 = (static_cast<int>(blockIdx.y) * kSlots + slot) * kGemmPack;
  const int i = static_cast<int>(blockIdx.x) * kSide + static_cast<int>(threadIdx.x) % kSide;
  if (o0 >= out || i >= in) return;
  const float* moments = sums + static_cast<long>(out) * in + i;  // K, then sum u
  float y[kGemmPack] = {};
  for (int j = 0; j < in; j += kGemmPack) {
    float k[kGemmPack];
#pragma unroll
    for (int d = 0; d < kGemmPack; ++d) k[d] = moments[static_cast<long>(j + d) * in];
#pragma unroll
    for (int e = 0; e < kGemmPack; ++e) {
      float weights[kGemmPack];
      load(w.w + static_cast<long>(o0 + e) * w.ld + j, weights);
#pragma unroll
      for (int d = 0; d < kGemmPack; ++d) y[e] += weights[d] * k[d];
    }
  }
  const float whole = moments[static_cast<long>(in) * in];
#pragma unroll
  for (int e = 0; e < kGemmPack; ++e) {
    const int o = o0 + e;
    float weight[1];
    load(w.w + static_cast<long>(o) * w.ld + i, weight);
    const float sum = dy.ca[o] * sums[static_cast<long>(o) * in + i] + dy.cb[o] * y[e];
    dw.out[static_cast<long>(o) * dw.ld + i] += sum + dy.cc[o] * whole + dw.decay * weight[0];
  }
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
    float dz[kRowPack] = {}, y[kRowPack] = {};
    if (dy.dz.data) load(static_cast<const T*>(dy.dz.data) + row * c + channel, dz);
    if (reads_y(dy)) load(static_cast<const T*>(dy.y.data) + row * c + channel, y);
    undefer(dy.deferred, static_cast<int>(row / (dy.dz.h * dy.dz.w)), c, channel, y, dz);
#pragma unroll
    for (int i = 0; i < kRowPack; ++i) sum[i] += reader.value(i, dz[i], y[i]);
  }
  const int first = static_cast<int>(blockIdx.x) * rows.cut.lanes * kRowPack;
  float* out = partial + static_cast<long>(blockIdx.y) * c;
  sum_slots(sum, buffer, rows.cut.lanes, rows.cut.slots, [&](int i, int lane, float total) {
    if (first + lane * kRowPack + i < c) out[first + lane * kRowPack + i] = total;
  });
}

template <class A>
void dgrad(CudaContext& context, const PointwiseBackward& args, const Products<A>& of) {
  const int c = of.w.width;
  with_columns<typename A::Element>(c, [&](auto columns) {
    const int across = ceil_div(c, columns()), most = larger(kBlocks / across, 1);
    const RowChunks chunks = cut_chunks(args.x, kGemmRows, most);
    const int down = chunks.count() < most ? chunks.count() : most;
    const GradPartials grads(args, chunks, down);
    float* partial = scratch(context, grads.size());
    launch(context, "pointwise dgrad", dgrad_kernel<A, columns()>,
           {dim3(across, down), dim3(kGemmThreads), DgradTile<A, columns()>::kSharedBytes}, of.a,
           of.w, args.x, args.dx, chunks, grads.sums(partial));
    OrderedSums sums;
    grads.add_to(sums, partial);
    add_in_order(context, sums);
  });
}

template <class A>
void wgrad(CudaContext& context, const Products<A>& of) {
  using T = typename A::Element;
  const int in = of.w.width, out = of.w.lines;
  with_columns<T>(in, [&](auto columns) {
    const int tiles = ceil_div(in, columns()) * ceil_div(out, kGemmRows);
    const std::size_t size = static_cast<std::size_t>(in) * out;
    const auto fit = static_cast<int>(context.workspace_bytes / sizeof(float) / size);
    int chunks = larger(kWgradBlocks / tiles, 1);
    if (chunks > few_partials(of)) chunks = few_partials(of);
    if (chunks > fit) chunks = fit;
    const int depth = ceil_div(ceil_div(of.a.lines, kGemmDepth<T>), larger(chunks, 1));
    chunks = ceil_div(of.a.lines, depth * kGemmDepth<T>);
    float* partial = scratch(context, chunks * size);
    launch(context, "pointwise wgrad", wgrad_kernel<A, columns()>,
           {dim3(ceil_div(in, columns()), ceil_div(out, kGemmRows), chunks), dim3(kGemmThreads),
            WgradGemm<A, columns()>::kSharedBytes},
           of.a, of.u, out, depth * kGemmDepth<T>, partial);
    OrderedSum sum = of.sum;
    sum.partial = partial;
    sum.chunks = chunks;
    sum.stride = static_cast<long>(size);
    OrderedSums sums;
    sums.add(sum);
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

/// Those that are wanted, in one kernel if it can, else by the library if it is asked for and can.
template <class A>
void multiply_out(CudaContext& context, const PointwiseBackward& args, const Products<A>& of) {
  constexpr bool kHalf = std::is_same_v<typename A::Element, bf16>;
  constexpr bool kStored = std::is_same_v<A, IncomingOperand<typename A::Element>>;
  if constexpr (kHalf) {
    const bool both = args.dx.dz && of.sum.out && !library::wanted(context);
    if (both && joint_products(context, args, of)) return;
  }
  if (args.dx.dz && !(kStored && library::pointwise_dgrad(context, args))) {
    dgrad(context, args, of);
  }
  if (of.sum.out && !(kStored && library::pointwise_wgrad(context, args))) wgrad(context, of);
}

template <class T>
SourceOperand<T> source_operand(const PointwiseBackward& args) {
  const Tensor& x = args.x.y;
  return {args.x, static_cast<int>(x.rows()), x.c, x.h * x.w};
}

template <class T>
void stored(CudaContext& context, const PointwiseBackward& args) {
  const Tensor& dz = args.dy.dz;
  const int in = args.w.in.now, out = args.w.out.now;
  Products<IncomingOperand<T>> of{{args.dy, static_cast<int>(dz.rows()), dz.c, dz.h * dz.w},
                                  {static_cast<const T*>(args.w.data), out, in, args.w.in.max},
                                  source_operand<T>(args),
                                  {}};
  if (args.dw) {
    of.sum.rows = out;
    of.sum.width = in;
    of.sum.ld = args.dw.in.max;
    of.sum.out = args.dw.f32();
    of.sum.decay = args.decay;
    if (args.decay != 0) of.sum.w = args.w.data;
    of.sum.w_type = args.w.type;
  }
  multiply_out(context, args, of);
  if (args.dbias) bias_grad<T>(context, args);
}

template <class T>
void expanded(CudaContext& context, const PointwiseBackward& args) {
  const int in = args.w.in.now, out = args.w.out.now, lines = out + in + kGemmPack;
  const std::size_t size = static_cast<std::size_t>(lines) * in;
  const WeightOperand<T> w{static_cast<const T*>(args.w.data), out, in, args.w.in.max};
  const std::size_t taken = (size * (sizeof(float) + sizeof(T)) + 255) / 256 * 256;
  float* sums = scratch(context, taken / sizeof(float));
  T* matrix = reinterpret_cast<T*>(sums + size);
  CudaContext rest = context;  // what is left for partial sums
  rest.workspace += taken;
  rest.workspace_bytes -= taken;
  const int across = ceil_div(in, kSide);
  launch(context, "pointwise expand", expand_kernel<T>,
         {dim3(across, lines / kGemmPack), dim3(kGemmThreads)}, w, args.dy, matrix);
  const SourceOperand<T> u = source_operand<T>(args);
  Products<ExpandedOperand<T>> of{{static_cast<const T*>(args.dy.dz.data), u, u.lines, lines, out},
                                  {matrix, lines, in, in},
                                  u,
                                  {}};
  if (args.dw) {
    of.sum.rows = lines;
    of.sum.width = of.sum.ld = in;
    of.sum.out = sums;
    of.sum.how = Write::overwrite;
  }
  multiply_out(rest, args, of);
  if (!args.dw) return;
  OrderedSum dw;
  dw.ld = args.dw.in.max;
  dw.out = args.dw.f32();
  dw.decay = args.decay;
  launch(context, "pointwise contract", contract_kernel<T>,
         {dim3(across, ceil_div(out, kSlots * kGemmPack)), dim3(kGemmThreads)}, w, args.dy, sums,
         dw);
}

void check(const PointwiseBackward& args) {
  const Incoming& dy = args.dy;
  const DType type = dy.dz.type;
  require(type == args.x.y.type && args.w.type == type,
          "pointwise backward on CUDA takes gradient, source and weights of one type");
  check_addend("pointwise_backward", args.dx);
  if (args.x.gate) refuse_addend("pointwise_backward", args.dx);
  require(!args.x.gate || args.dx.how == Write::overwrite,
          "the gradient of a gated source is overwritten, never accumulated");
  require(!args.dx.slope_sums || (args.x.gate && args.dx.mean),
          "pointwise backward leaves slope sums of gated sources with a mean only");
  require(!dy.deferred.scale == !dy.deferred.shift,
          "a deferred gradient comes with both scale and shift or neither");
  require(dy.dz.data || (dy.deferred.scale && dy.deferred.spread),
          "pointwise backward needs dz where nothing is spread");
  require(!dy.deferred.scale || dy.y.data,
          "pointwise backward needs the stored output of a deferred gradient");
  const bool stored = !dy.ca || dy.y.data;
  require(stored || (!args.x.gate && !args.dbias && args.w.out.now == dy.dz.c),
          "an output that is not stored has an ungated source, no bias and a width of whole packs");
}

}  // namespace

void pointwise_backward(CudaContext& context, const PointwiseBackward& args) {
  check(args);
  with_type(args.dy.dz.type, [&](auto t) {
    using T = decltype(t);
    if (args.dy.ca && !args.dy.y.data) {
      expanded<T>(context, args);
    } else {
      stored<T>(context, args);
    }
  });
}

}  // namespace tunas::kernels::cuda
