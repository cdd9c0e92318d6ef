// Both products of pointwise backward (pointwise.h) from the same tiles, bf16:
//
//   du[r,i] = sum_k a[r,k]*w[k,i];   dw[k,i] = sum_r a[r,k]*u[r,i]       a: dy, or what stands for
//   it
//
// A block has a slice of the columns i and all of k. It takes tiles of rows in turn: a is made once
// and lies in shared memory for both products, x is loaded once for u and for the epilogue. dw
// stays in registers over all the block's rows and leaves one partial, [block][k][i], added in
// order. The next tile is on its way to registers while this one is multiplied.
//
// Bytes: a is read once for every slice, x and dx move once. The two kernels read a for every 128
// columns twice and x for every 128 k once more, so that a slice of 64 columns and 256 k is level
// with them at worst:
//
//   k up to    64          128         256
//   columns    32 64 128   32 64 128   64       the fewest slices, of these the narrowest
//
// k*columns is at most 16384 floats, 32 registers a thread of 512; beyond that dw would leave the
// registers. Small slices have blocks of 256 threads, two an SM.
#include "kernels/pointwise_backward.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kSlots = 264;  // blocks of 256 threads; half as many of 512

template <class A, int kK, int kColumns, int kRows, int kThreads>
struct JointTile {
  using Operand = A;
  static constexpr int kThreadCount = kThreads, kTileRows = kRows, kSlice = kColumns;
  using Incomings = Stage<A, Order::along, kRows, kK, kThreads>;
  using Weights = Stage<WeightOperand<bf16>, Order::across, kColumns, kK, kThreads>;
  using Sources = Stage<SourceOperand<bf16>, Order::across, kColumns, kRows, kThreads>;
  struct Turned {  // the incomings as rows of k
    static constexpr Order kOrder = Order::across;
    static constexpr int kStride = Incomings::kStride;
  };
  using Finished = FinishedGrad<kColumns, kRows, kThreads>;
  using Epilogue = GradEpilogue<bf16, Finished>;
  using DataGrad = Accumulators<kColumns, kRows, kThreads>;
  using WeightGrad = Accumulators<kColumns, kK, kThreads>;

  // Weights, the raw source, then a and u, in whose place the finished tile stands; its sums.
  static constexpr int kRaw = Weights::kElements, kIncoming = kRaw + Sources::kElements;
  static constexpr int kSource = kIncoming + Incomings::kElements;
  static constexpr int kOver = larger(Finished::kBytes, kGradPack* kThreads * 4);
  static constexpr int kSums =
      kIncoming + larger(Incomings::kElements + Sources::kElements, kOver / 2);
  static constexpr int kSharedBytes = kSums * 2 + Epilogue::kBytes;
};

template <class Joint>
__global__ void __launch_bounds__(Joint::kThreadCount, Joint::kThreadCount == 256 ? 2 : 1)
    joint_kernel(typename Joint::Operand a, WeightOperand<bf16> w, SourceOperand<bf16> u,
                 SourceGrad dx, RowChunks chunks, GradSums sums, float* partial) {
  auto* shared = dynamic_shared<bf16>();
  bf16 *raw = shared + Joint::kRaw, *incoming = shared + Joint::kIncoming;
  bf16* source = shared + Joint::kSource;
  auto* finished = reinterpret_cast<float*>(incoming);
  const int first = static_cast<int>(blockIdx.x) * Joint::kSlice;
  const int step = static_cast<int>(gridDim.y), depth = (a.width + 15) / 16 * 16;
  {
    typename Joint::Weights weights(w);
    weights.fetch(first, 0);
    weights.commit(shared);
  }
  typename Joint::Incomings incomings(a);
  typename Joint::Sources sources(u);
  const typename Joint::Epilogue epilogue(u.x, dx, sums, first, shared + Joint::kSums);
  typename Joint::WeightGrad dw;
  dw.clear();
  const auto fetch = [&](const RowTile& tile) {
    a.lines = u.lines = tile.end;  // beyond are rows of another block: zeros
    incomings.fetch(tile.row, 0);
    sources.fetch(first, tile.row);
  };
  RowTile next = chunks.first_of(static_cast<int>(blockIdx.y));
  fetch(next);
  while (next.chunk < chunks.count()) {
    const RowTile tile = next;
    incomings.commit(incoming);
    sources.commit(source);
    sources.commit_raw(raw);
    __syncthreads();
    next = chunks.after(tile, Joint::kTileRows, step);
    if (next.chunk < chunks.count()) fetch(next);
    typename Joint::DataGrad du;
    du.clear();
#pragma unroll 1
    for (int k = 0; k < depth; k += 16) {
      multiply_step<typename Joint::Incomings, typename Joint::Weights>(incoming, shared, k, du);
    }
#pragma unroll 1
    for (int r = 0; r < Joint::kTileRows; r += 16) {
      multiply_step<typename Joint::Turned, typename Joint::Sources>(incoming, source, r, dw);
    }
    __syncthreads();
    Joint::Finished::write(du, finished);
    epilogue.put(tile, finished, raw, Joint::Sources::kStride);
    __syncthreads();
    if (next.chunk != tile.chunk) epilogue.leave_image(chunks, tile.chunk, finished);
  }
  epilogue.leave_whole(finished);
  float* to = partial + static_cast<long>(blockIdx.y) * w.lines * w.width;
  dw.each([&](int row, int column, float v0, float v1) {
    if (row >= w.lines || first + column >= w.width) return;
    *reinterpret_cast<float2*>(to + static_cast<long>(row) * w.width + first + column) = {v0, v1};
  });
}

template <class Joint>
void run(CudaContext& context, const PointwiseBackward& args,
         const Products<typename Joint::Operand>& of) {
  const int across = ceil_div(of.w.width, Joint::kSlice);
  const int fill = larger(kSlots * 256 / Joint::kThreadCount / across, 1);
  const int most = fill < few_partials(of) ? fill : few_partials(of);
  const RowChunks chunks = cut_chunks(args.x, Joint::kTileRows, most);
  const int down = chunks.count() < most ? chunks.count() : most;
  const GradPartials grads(args, chunks, down);
  const std::size_t size = static_cast<std::size_t>(of.w.lines) * of.w.width;
  float* partial = scratch(context, grads.size() + down * size);
  float* dw = partial + grads.size();
  launch(context, "pointwise joint", joint_kernel<Joint>,
         {dim3(across, down), dim3(Joint::kThreadCount), Joint::kSharedBytes}, of.a, of.w, of.u,
         args.dx, chunks, grads.sums(partial), dw);
  OrderedSums sums;
  OrderedSum sum = of.sum;
  sum.partial = dw;
  sum.chunks = down;
  sum.stride = static_cast<long>(size);
  sums.add(sum);
  grads.add_to(sums, partial);
  add_in_order(context, sums);
}

template <class A>
bool joint(CudaContext& context, const PointwiseBackward& args, const Products<A>& of) {
  const int k = larger(of.a.width, of.w.lines), columns = gemm_columns(of.w.width);
  if (k > 256) return false;
  if (k > 128) {
    run<JointTile<A, 256, 64, 64, 512>>(context, args, of);
  } else if (columns == 128) {
    if (k > 64) {
      run<JointTile<A, 128, 128, 64, 512>>(context, args, of);
    } else {
      run<JointTile<A, 64, 128, 128, 512>>(context, args, of);
    }
  } else if (columns == 64) {
    if (k > 64) {
      run<JointTile<A, 128, 64, 64, 512>>(context, args, of);
    } else {
      run<JointTile<A, 64, 64, 64, 256>>(context, args, of);
    }
  } else if (k > 64) {
    run<JointTile<A, 128, 32, 64, 256>>(context, args, of);
  } else {
    run<JointTile<A, 64, 32, 128, 256>>(context, args, of);
  }
  return true;
}

}  // namespace

bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<IncomingOperand<bf16>>& of) {
  return joint(context, args, of);
}
bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<ExpandedOperand<bf16>>& of) {
  return joint(context, args, of);
}

}  // namespace tunas::kernels::cuda
