// Depthwise backward (depthwise.h), dgrad and wgrad in one pass over dz, y and x.
//
// Outputs are cells: cell (P, Q) is the stride x stride block of input pixels with
// h + top = stride*P + a, w + left = stride*Q + b. With i = stride*m + a and j = stride*l + b
//
//   du[h,w] = sum_{m,l} w[i,j]*dy[P-m, Q-l];     dw[i,j] += u[h,w]*dy[P-m, Q-l]
//
// so M = ceil(k/stride) rows and columns of dy serve both products of every pixel of a cell. dy is
// made of dz and y once, in a tile in shared memory (depthwise.cuh); each pixel of x is read and
// each of dx written by one thread only. A thread walks down the rows of its patch; its dw stay in
// registers. Each block leaves [k*k + 2][c] sums (dw, S1, S2), added by a second kernel.
#include "kernels/depthwise_check.h"
#include "kernels/depthwise_cut.cuh"
#include "kernels/depthwise_expanded.cuh"
#include "kernels/grad_writer.cuh"
#include "kernels/library.h"

namespace tunas::kernels::cuda {
namespace {

template <class T, int K, int S, bool kExpanded>
struct BackwardPatch {
  static constexpr int kChannels = K == 3 ? 2 : 1;
  static constexpr int kRows = K == 3 || S == 2 ? 4 : 7, kColumns = S == 2 ? 4 : 7;  // of cells
  static constexpr int kLive = (K + S - 1) / S;                                      // M
  static constexpr int kTaps = K * K, kWork = 2 * kTaps + 20 * S * S;
  static constexpr int kBlocks = K == 7 || (S == 2 && sizeof(T) == 4) ? 2 : 3;
  static constexpr Patch kPatch{kRows, kColumns, kChannels, kLive, 1, kTaps, kWork, kBlocks};
  static constexpr int kDy = kColumns + kLive - 1;  // columns of dy
  static constexpr int kPixels = kColumns * S;      // columns of x
  static constexpr unsigned kAll = (1u << kPixels) - 1;
  using Word = Raw<T, kChannels>;

  const DepthwiseBackward& a;
  int channel;
  const float* taps;
  int raw_row;  // of the raw tile
  Reader<kChannels> reader;
  GradWriter<T, kChannels> writer;
  float dw[kTaps * kChannels] = {};

  __device__ BackwardPatch(const DepthwiseBackward& args, int c0, const float* own_taps, int row)
      : a(args),
        channel(c0),
        taps(own_taps),
        raw_row(row),
        reader(args.x, c0),
        writer(args.dx, c0) {}

  /// Calls f(p) for the columns whose bit is set; a uniform branch spares the usual case the tests.
  template <class F>
  __device__ static void each_column(unsigned columns, const F& f) {
    if (columns == kAll) {
#pragma unroll
      for (int p = 0; p < kPixels; ++p) f(p);
    } else {
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        if (columns >> p & 1) f(p);
      }
    }
  }

  /// From one row of x, where it is read, to the next.
  __device__ long line_of_x() const {
    return kExpanded ? raw_row : static_cast<long>(a.x.y.w) * a.x.y.c;
  }
  /// The S rows of x of a cell row, from memory or a raw tile; bit p of `columns`: column p is
  /// inside the image.
  __device__ void fetch(const T* from, int h, unsigned columns, Word (&raw)[S][kPixels]) const {
    const int c = kExpanded ? 2 : a.x.y.c;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const unsigned inside = h + s >= 0 && h + s < a.x.y.h ? columns : 0u;
      const T* at = from + s * line_of_x();
      if (inside != kAll) {
#pragma unroll
        for (int p = 0; p < kPixels; ++p) raw[s][p] = Word{};
      }
      each_column(inside, [&](int p) { raw[s][p] = load_raw<T, kChannels>(at + p * c); });
    }
  }

  /// Both products of one row of x, the s-th of its cell row, with one row of dy, m rows above.
  __device__ void multiply(const float (&dy)[kDy * kChannels], int m, int s, const float* w,
                           const float (&u)[kPixels * kChannels],
                           float (&du)[kPixels * kChannels]) {
    const int i = S * m + s;
#pragma unroll
    for (int j = 0; j < K; ++j) {
      const int tap = (i * K + j) * kChannels;
#pragma unroll
      for (int e = 0; e < kColumns * kChannels; ++e) {
        const int q = e / kChannels, ch = e % kChannels;
        const int at = (q * S + j % S) * kChannels + ch;
        const float d = dy[(q + kLive - 1 - j / S) * kChannels + ch];
        du[at] += w[tap + ch] * d;
        dw[tap + ch] += u[at] * d;
      }
    }
  }

  /// Turns du of one row of x into dz, adds to its sums and writes it.
  __device__ void finish_row(long at, unsigned columns, const Word (&raw)[kPixels],
                             float (&d)[kPixels * kChannels]) {
    if (a.dx.addend.da.data) {
      each_column(columns, [&](int p) {
        take_addend<T, kChannels>(a.dx.addend, at + p * a.x.y.c, d + p * kChannels);
      });
    }
    float v[kPixels * kChannels];
    reader.normalise_row(raw, v);
    activate_backward(reader.act, v, d);
    clear_outside<kChannels>(columns, d);
    unpack_row<kChannels>(raw, v);
#pragma unroll
    for (int p = 0; p < kPixels; ++p) writer.sum(v + p * kChannels, d + p * kChannels);
    const int c = a.x.y.c;
    T* to = writer.dz + at;
    if (writer.add) {
      each_column(columns, [&](int p) {
        float before[kChannels];
        load(to + p * c, before);
#pragma unroll
        for (int ch = 0; ch < kChannels; ++ch) d[p * kChannels + ch] += before[ch];
      });
    }
    each_column(columns, [&](int p) { store_part<T, kChannels>(to + p * c, d + p * kChannels); });
  }

  struct Place {
    const float* dy;  // the first that its window reads
    const T* raw;     // its first pixel in a raw tile
    int image, top, left;
    int rows;  // of cells
  };

  /// The patch whose first pixel is (top, left); row_floats: from one row of dy to the next.
  __device__ void compute(const Place& place, int row_floats) {
    const Tensor& x = a.x.y;
    const int top = place.top, left = place.left;
    const float* from = place.dy;
    unsigned columns = 0;
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      columns |= static_cast<unsigned>(left + p >= 0 && left + p < x.w) << p;
    }
    float w[kTaps * kChannels];
    read_pairs<kChannels, kTaps>(taps, w);
    const long line = static_cast<long>(x.w) * x.c;
    long at = (static_cast<long>(place.image) * x.h + top) * line + static_cast<long>(left) * x.c +
              channel;
    const T* x_at = kExpanded ? place.raw : static_cast<const T*>(x.data) + at;
    Word raw[S][kPixels];
    fetch(x_at, top, columns, raw);
#pragma unroll 1
    for (int h = top, rows = place.rows; rows > 0;
         --rows, h += S, at += S * line, from += row_floats) {
      Word next[S][kPixels];
      x_at += S * line_of_x();
      fetch(x_at, rows > 1 ? h + S : -S, columns, next);
#pragma unroll
      for (int s = 0; s < S; ++s) {
        if (h + s < 0 || h + s >= x.h) continue;
        float u[kPixels * kChannels], du[kPixels * kChannels] = {};
        reader.row(raw[s], columns, u);
#pragma unroll
        for (int r = 0; r < kLive; ++r) {
          const int m = kLive - 1 - r;
          if (S * m + s >= K) continue;
          float dy[kDy * kChannels];
          read_pairs<kChannels, kDy>(from + r * row_floats, dy);
          multiply(dy, m, s, w, u, du);
        }
        if (writer.dz) finish_row(at + s * line, columns, raw[s], du);
      }
#pragma unroll
      for (int s = 0; s < S; ++s) {
#pragma unroll
        for (int p = 0; p < kPixels; ++p) raw[s][p] = next[s][p];
      }
    }
  }
};

template <class T, int K, int S, bool kExpanded>
__global__ void __launch_bounds__(kTileThreads,
                                  resident(BackwardPatch<T, K, S, kExpanded>::kBlocks))
    depthwise_backward_kernel(DepthwiseBackward a, Tiling tiling, int cells, float* partial) {
  using Mine = BackwardPatch<T, K, S, kExpanded>;
  constexpr Patch kPatch = Mine::kPatch;
  auto* tile = dynamic_shared<float>();
  const Tensor& dz = a.dy.dz;
  const TilePlace place(tiling, kPatch.channels, dz.c);
  TileLoader<IncomingMaker<T>> loader(a.dy, tiling, dz.h, dz.w, dz.c);
  const int first = place.lane * kPatch.channels;  // of the block's channels
  float* taps = tile + tiling.bytes() / 4;
  load_taps<T>(a.w, tiling, dz.c, taps);
  Mine mine(a, place.channel, taps + first / 2 * (Mine::kTaps * 2) + first % 2,
            tiling.expanded.row);
  const float* own = tile + first / 2 * tiling.pair_floats + first % 2;
  char* memory = reinterpret_cast<char*>(taps) + tiling.tap_bytes(kPatch);
  RawTiles<T, kExpanded> raw(a.expansion, tiling, a.x.y, memory);
  const int own_raw = first / 2 * tiling.expanded.pair + first % 2;
  for (TileRun run(tiling); run.left > 0; run.next(tiling)) {
    // Cells begin with the first that holds a pixel.
    const int row = run.row(tiling, kPatch) + a.top / S;
    const int column = run.column(tiling, kPatch) + a.left / S;
    __syncthreads();
    loader.load(tiling, run.image, row - (Mine::kLive - 1), column - (Mine::kLive - 1), tile);
    raw.make(tiling, run.image, row * S - a.top, column * S - a.left);
    __syncthreads();
    place.each_patch(tiling, [&](int down, int across) {
      const int r = down * kPatch.rows, q = across * kPatch.columns;
      const int rows = cells + a.top / S - row - r;
      mine.compute({own + r * tiling.row_floats + q * 2,
                    raw.tile + own_raw + r * S * tiling.expanded.row + q * S * 2, run.image,
                    (row + r) * S - a.top, (column + q) * S - a.left,
                    rows < kPatch.rows ? rows : kPatch.rows},
                   tiling.row_floats);
    });
  }
  if (!partial) return;
  float* out = partial + static_cast<long>(blockIdx.y) * (Mine::kTaps + 2) * dz.c;
  const int lanes = tiling.lanes, c0 = static_cast<int>(blockIdx.x) * tiling.packs * kTilePack;
  const auto emit = [&](int row) {
    return [=, c = dz.c](int v, int lane, float sum) {
      const int at = c0 + lane * kPatch.channels + v % kPatch.channels;
      if (at < c) out[(row + v / kPatch.channels) * c + at] = sum;
    };
  };
  sum_slots(mine.dw, tile, lanes, tiling.slots, emit(0));
  sum_slots(mine.writer.s1, tile, lanes, tiling.slots, emit(Mine::kTaps));
  sum_slots(mine.writer.s2, tile, lanes, tiling.slots, emit(Mine::kTaps + 1));
}

/// dw, S1 and S2 from the partial sums of `chunks` blocks.
void add_sums(const CudaContext& context, const DepthwiseBackward& args, const float* partial,
              int chunks) {
  const int taps = args.w.k * args.w.k, c = args.x.y.c;
  const long stride = static_cast<long>(taps + 2) * c;
  OrderedSums sums;
  if (args.dw) {
    OrderedSum dw{partial, chunks, stride, taps, c, args.dw.in.max, args.dw.f32()};
    if (args.decay != 0) {
      dw.w = args.w.data;
      dw.w_type = args.w.type;
      dw.decay = args.decay;
    }
    sums.add(dw);
  }
  if (args.dx.dz) {
    add_source_sums(sums, args.dx, partial + static_cast<long>(taps) * c, chunks, stride, c);
  }
  if (sums.count) add_in_order(context, sums);
}

template <class T, int K, int S, bool kExpanded>
void run(CudaContext& context, const DepthwiseBackward& args) {
  constexpr Patch kPatch = BackwardPatch<T, K, S, kExpanded>::kPatch;
  const Tensor& x = args.x.y;
  const auto cells = [](int size, int before) { return (size - 1 + before) / S - before / S + 1; };
  const int down = cells(x.h, args.top);
  const Tiling tiling =
      cut_tiles({x.n, down, cells(x.w, args.left), x.c, kPatch, expanded(args.expansion, S)});
  const bool sums_wanted = args.dw || (args.dx.dz && args.dx.mean);
  const long stride = static_cast<long>(kPatch.taps + 2) * x.c;
  float* partial = sums_wanted ? scratch(context, tiling.chunks * stride) : nullptr;
  launch(context, "depthwise backward", depthwise_backward_kernel<T, K, S, kExpanded>,
         tiling.shape(kPatch), args, tiling, down, partial);
  if (partial) add_sums(context, args, partial, tiling.chunks);
}

}  // namespace

void depthwise_backward(CudaContext& context, const DepthwiseBackward& args) {
  check_input(args.x, args.w, args.expansion);
  check_incoming(args.dy);
  check_addend("depthwise_backward", args.dx);
  if (library::depthwise_backward(context, args)) return;
  with_type(args.x.y.type, [&](auto t) {
    with_window(args.w.k, args.stride, [&](auto k, auto s) {
      with_expansion(args.expansion,
                     [&](auto expanded) { run<decltype(t), k(), s(), expanded()>(context, args); });
    });
  });
}

}  // namespace tunas::kernels::cuda
