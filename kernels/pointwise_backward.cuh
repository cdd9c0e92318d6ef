// What the kernels of pointwise backward share: how rows are cut into chunks and tiles, and the
// epilogue of dgrad, which turns a finished tile of du into the gradient of the source (source.h).
//
//   ungated   dz = (du + addend)*act'(z); S1, S2 of a block's rows
//   gated     da = du*gate; of every image dgate and, where they are wanted, the two slope sums
//
// Chunks of a gated source do not cross images. A block takes chunks in turn and leaves the sums of
// an image after each of them, those of the whole at its end.
#pragma once

#include "kernels/gemm.cuh"
#include "kernels/pointwise.h"

namespace tunas::kernels::cuda {

struct RowTile {
  int chunk, row, end;  // its rows: at most a tile's from `row`, of a chunk that ends at `end`
};

/// Rows in groups (the images of a gated source; else all are one), each in chunks of `each` rows.
struct RowChunks {
  int group_rows, groups, each;

  __host__ __device__ int parts() const { return (group_rows + each - 1) / each; }
  __host__ __device__ int count() const { return groups * parts(); }
  __device__ RowTile first_of(int chunk) const {
    const int group = chunk / parts();
    const int begin = group * group_rows + (chunk - group * parts()) * each;
    const int end = begin + each, limit = (group + 1) * group_rows;
    return {chunk, begin, end < limit ? end : limit};
  }
  /// The tile a block takes after `tile`; its chunk is count() or more when there is none.
  __device__ RowTile after(const RowTile& tile, int tile_rows, int step) const {
    if (tile.row + tile_rows < tile.end) return {tile.chunk, tile.row + tile_rows, tile.end};
    return first_of(tile.chunk + step);
  }
};

/// Chunks of whole tiles, enough for about `blocks` blocks.
inline RowChunks cut_chunks(const Source& x, int tile_rows, int blocks) {
  const int groups = x.gate ? x.y.n : 1, rows = static_cast<int>(x.y.rows()) / groups;
  const int tiles = ceil_div(rows, tile_rows);
  return {rows, groups, ceil_div(tiles, larger(ceil_div(blocks, groups), 1)) * tile_rows};
}

/// Where the sums of the epilogue go; null: not wanted.
struct GradSums {
  float* whole = nullptr;  // ungated: [block][S1, S2][c]
  float* dgate = nullptr;  // gated: of part p from p*stride on
  float* slopes = nullptr;
  long stride = 0;
};

/// A thread has four channels: what it keeps of them lies beside accumulators and loads in flight.
inline constexpr int kGradPack = 4;
template <int kColumns, int kRows = kGemmRows, int kThreads = kGemmThreads>
using FinishedGrad = FinishedTile<kColumns, kRows, kThreads, kGradPack>;

template <class T, class Tile>
struct GradEpilogue {
  const Source& x;
  const SourceGrad& dx;
  const GradSums& to;
  int first, channel;  // of the block, of the thread
  bool idle;
  GradWriter<T, kGradPack> writer;
  float gate[kGradPack] = {};  // sums of du*a

  __device__ GradEpilogue(const Source& source, const SourceGrad& grad, const GradSums& sums,
                          int first_channel)
      : x(source),
        dx(grad),
        to(sums),
        first(first_channel),
        channel(first + Tile::lane() * kGradPack),
        idle(channel >= x.y.c),
        writer(grad, idle ? 0 : channel) {}

  /// `raw`: the source of the tile's first row, this block's channels, in rows of `stride`.
  __device__ void put(const RowTile& rows, const float* tile, const T* raw, int stride) {
    if (idle) return;
    load_channels(dx.mean, channel, 0.0f, writer.mean);  // anew: no register keeps it meanwhile
    const Reader<kGradPack> reader(x, channel);
    float factor[kGradPack];
    const int image = x.gate ? rows.row / (x.y.h * x.y.w) : 0;
    load_channels(x.gate, image * x.y.c + channel, 1.0f, factor);
#pragma unroll 1
    for (int r = Tile::slot(); r < Tile::kRows && rows.row + r < rows.end; r += Tile::kSlots) {
      const long at = static_cast<long>(rows.row + r) * x.y.c + channel;
      float du[kGradPack], y[kGradPack];
      Tile::read(tile, r, du);
      load(raw + static_cast<long>(r) * stride + Tile::lane() * kGradPack, y);
      if (x.gate) {
        put_gated(at, reader, factor, y, du);
      } else {
        take_addend<T, kGradPack>(dx.addend, at, du);
        writer.put(at, reader, y, du);
      }
    }
  }
  __device__ void put_gated(long at, const Reader<kGradPack>& reader,
                            const float (&factor)[kGradPack], const float (&y)[kGradPack],
                            float (&d)[kGradPack]) {
    float z[kGradPack], a[kGradPack];
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) z[i] = y[i];
    reader.normalise(z);
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) a[i] = z[i];
    activate(reader.act, a);
#pragma unroll
    for (int i = 0; i < kGradPack; ++i) {
      gate[i] += d[i] * a[i];
      d[i] *= factor[i];
    }
    store(writer.dz + at, d);
    activate_backward(reader.act, z, d);
    writer.sum(y, d);
  }

  /// After a chunk; all threads must call it.
  __device__ void leave_image(const RowChunks& chunks, int chunk, float* buffer) {
    if (!x.gate) return;
    const int parts = chunks.parts(), image = chunk / parts;
    const long at = (chunk - image * parts) * to.stride + static_cast<long>(image) * x.y.c;
    leave(gate, to.dgate + at, buffer);
    if (to.slopes) {
      leave(writer.s1, to.slopes + at, buffer);
      leave(writer.s2, to.slopes + at + static_cast<long>(x.y.n) * x.y.c, buffer);
    }
    __syncthreads();
  }
  /// At the end; all threads must call it.
  __device__ void leave_whole(float* buffer) {
    if (!to.whole) return;
    float* at = to.whole + static_cast<long>(blockIdx.y) * 2 * x.y.c;
    leave(writer.s1, at, buffer);
    leave(writer.s2, at + x.y.c, buffer);
  }
  __device__ void leave(float (&sums)[kGradPack], float* at, float* buffer) const {
    const int c = x.y.c, begin = first;
    sum_slots(sums, buffer, Tile::kLanes, Tile::kSlots, [=](int i, int lane, float sum) {
      if (begin + lane * kGradPack + i < c) at[begin + lane * kGradPack + i] = sum;
    });
#pragma unroll
    for (float& sum : sums) sum = 0;
  }
};

/// The partial sums of `blocks` blocks from `partial` on, and what adds them.
class GradPartials {
 public:
  GradPartials(const PointwiseBackward& args, const RowChunks& chunks, int blocks)
      : grad_(args.dx), x_(args.x), parts_(chunks.parts()), blocks_(blocks) {}

  bool gated() const { return x_.gate; }
  long image_sums() const { return static_cast<long>(x_.y.n) * x_.y.c; }
  /// Floats; none where an image is one chunk, whose sums are final.
  std::size_t size() const {
    if (!gated()) return grad_.mean ? static_cast<std::size_t>(blocks_) * 2 * x_.y.c : 0;
    return parts_ > 1 ? static_cast<std::size_t>(parts_) * 3 * image_sums() : 0;
  }
  GradSums sums(float* partial) const {
    if (!gated()) return {grad_.mean ? partial : nullptr};
    if (parts_ == 1) return {nullptr, grad_.dgate, grad_.slope_sums, 0};
    return {nullptr, partial, grad_.slope_sums ? partial + image_sums() : nullptr,
            3 * image_sums()};
  }
  void add_to(OrderedSums& sums, const float* partial) const {
    if (size() == 0) return;
    if (!gated()) return add_source_sums(sums, grad_, partial, blocks_, 2L * x_.y.c, x_.y.c);
    const int n = x_.y.n, c = x_.y.c;
    sums.add({partial, parts_, 3 * image_sums(), n, c, c, grad_.dgate, Write::overwrite});
    if (!grad_.slope_sums) return;
    sums.add({partial + image_sums(), parts_, 3 * image_sums(), 2 * n, c, c, grad_.slope_sums,
              Write::overwrite});
  }

 private:
  const SourceGrad& grad_;
  const Source& x_;
  int parts_, blocks_;
};

/// Backward as products of matrices: du = a*w; what is added to dw, or makes it: a^T*u. `sum` says
/// where that goes.
template <class A>
struct Products {
  using T = typename A::Element;
  A a;
  WeightOperand<T> w;
  SourceOperand<T> u;
  OrderedSum sum;
};

/// Partial sums of dw that, written and read once, stay below half of what the tensors move, but
/// always a few: small tensors need the blocks more than the bytes.
template <class A>
int few_partials(const Products<A>& of) {
  constexpr int kFew = 8;
  const double tensors = 2.0 * of.a.lines * (of.a.width + of.u.width) * sizeof(typename A::Element);
  const double partial = 2.0 * of.w.lines * of.w.width * sizeof(float);
  return larger(static_cast<int>(tensors / 2 / partial), kFew);
}

/// Both products in one kernel that reads a and u once for every slice of columns; false, with
/// nothing touched, where registers do not hold such a slice (pointwise_joint.cu).
bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<IncomingOperand<bf16>>& of);
bool joint_products(CudaContext& context, const PointwiseBackward& args,
                    const Products<ExpandedOperand<bf16>>& of);

}  // namespace tunas::kernels::cuda
