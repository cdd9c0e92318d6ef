// Depthwise forward (depthwise.h): tiles of u in shared memory (depthwise.cuh), each thread
// computes patches of kRows x kColumns outputs, their sums in registers; every row of the tile that
// a patch reads is loaded once for all of its outputs. Leaves the moments of each block and
// channel, [chunks][4][c], merged by a second kernel.
#include "kernels/depthwise_check.h"
#include "kernels/depthwise_cut.cuh"
#include "kernels/depthwise_expanded.cuh"
#include "kernels/library.h"
#include "kernels/moments.cuh"

namespace tunas::kernels::cuda {
namespace {

template <class T, int K, int S, bool kExpanded>
struct ForwardPatch {
  static constexpr int kChannels = K == 7 || (K == 5 && S == 1) ? 1 : 2;
  static constexpr int kRows = kChannels == 2 ? 2 : S == 1 ? 7 : 4, kColumns = 7;
  // As many as registers allow.
  static constexpr int kBlocks = K == 7 || (K == 5 && S == 2)                       ? 3
                                 : K == 3 && S == 1 && sizeof(T) == 2 && !kExpanded ? 5
                                                                                    : 4;
  static constexpr int kTaps = K * K;
  static constexpr Patch kPatch{kRows, kColumns, kChannels, K, S, kTaps, kTaps + 8, kBlocks};
  static constexpr int kReads = kPatch.reads(kColumns);

  const DepthwiseForward& a;
  int channel;
  const float* taps;
  PivotSums<kChannels> spread;

  __device__ ForwardPatch(const DepthwiseForward& args, int c0, const float* own_taps)
      : a(args), channel(c0), taps(own_taps) {}

  /// acc += the products of one row of the tile with one row of the window.
  __device__ static void multiply(const float (&u)[kReads * kChannels], const float* w,
                                  float (&acc)[kColumns * kChannels]) {
#pragma unroll
    for (int j = 0; j < K; ++j) {
#pragma unroll
      for (int e = 0; e < kColumns * kChannels; ++e) {
        const int q = e / kChannels, ch = e % kChannels;
        acc[e] += w[j * kChannels + ch] * u[(q * S + j) * kChannels + ch];
      }
    }
  }

  __device__ void finish_row(T* to, int columns, const float (&row)[kColumns * kChannels]) {
    spread.start(row);
    spread.count += columns < kColumns ? columns : kColumns;
    const auto put = [&](int q) {
      store_part<T, kChannels>(to + q * a.y.c, row + q * kChannels);
      spread.put(row + q * kChannels);
    };
    if (columns >= kColumns) {
#pragma unroll
      for (int q = 0; q < kColumns; ++q) put(q);
    } else {
#pragma unroll
      for (int q = 0; q < kColumns; ++q) {
        if (q < columns) put(q);
      }
    }
  }

  /// The patch at (row, column) of the image's outputs; `from`: the first value of its window,
  /// row_floats: from one row of the tile to the next.
  __device__ void compute(const float* from, int row_floats, int image, int row, int column) {
    if (row >= a.y.h || column >= a.y.w) return;
    float w[kTaps * kChannels], acc[kRows][kColumns * kChannels] = {};
    read_pairs<kChannels, kTaps>(taps, w);
    T* to = static_cast<T*>(a.y.data) +
            ((static_cast<long>(image) * a.y.h + row) * a.y.w + column) * a.y.c + channel;
    const int above = a.top - row * S,
              below = above + a.x.y.h;  // rows that the image does not have
#pragma unroll
    for (int r = 0; r < kPatch.reads(kRows); ++r, from += row_floats) {
      const bool inside = K == 3 || (r >= above && r < below);  // not worth a branch where k is 3
      float u[kReads * kChannels];
      if (inside) read_pairs<kChannels, kReads>(from, u);
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        const int i = r - m * S;
        if (inside && i >= 0 && i < K) multiply(u, w + i * K * kChannels, acc[m]);
        if (i != K - 1) continue;
        finish_row(to, a.y.w - column, acc[m]);
        if (row + m + 1 >= a.y.h) return;
        to += static_cast<long>(a.y.w) * a.y.c;
      }
    }
  }
};

template <class T, int K, int S, bool kExpanded>
__global__ void __launch_bounds__(kTileThreads, resident(ForwardPatch<T, K, S, kExpanded>::kBlocks))
    depthwise_kernel(DepthwiseForward a, Tiling tiling, float* partial) {
  using Mine = ForwardPatch<T, K, S, kExpanded>;
  constexpr Patch kPatch = Mine::kPatch;
  auto* tile = dynamic_shared<float>();
  const Tensor& x = a.x.y;
  const TilePlace place(tiling, kPatch.channels, a.y.c);
  const int first = place.lane * kPatch.channels;  // of the block's channels
  float* taps = tile + tiling.bytes() / 4;
  auto loader = [&] {
    if constexpr (kExpanded) {
      char* memory = reinterpret_cast<char*>(taps) + tiling.tap_bytes(kPatch);
      return ExpandedLoader<T>(a.x, a.expansion, tiling, memory);
    } else {
      return TileLoader<SourceMaker<T>>(a.x, tiling, x.h, x.w, x.c);
    }
  }();
  load_taps<T>(a.w, tiling, a.y.c, taps);
  Mine mine(a, place.channel, taps + first / 2 * (Mine::kTaps * 2) + first % 2);
  const float* own = tile + first / 2 * tiling.pair_floats + first % 2;
  for (TileRun run(tiling); run.left > 0; run.next(tiling)) {
    const int row = run.row(tiling, kPatch), column = run.column(tiling, kPatch);
    __syncthreads();
    loader.load(tiling, run.image, row * S - a.top, column * S - a.left, tile);
    __syncthreads();
    place.each_patch(tiling, [&](int down, int across) {
      const int r = down * kPatch.rows, q = across * kPatch.columns;
      mine.compute(own + r * S * tiling.row_floats + q * S * 2, tiling.row_floats, run.image,
                   row + r, column + q);
    });
  }
  if (!partial) return;
  write_moments(mine.spread, tile, tiling.lanes, tiling.slots,
                static_cast<int>(blockIdx.x) * tiling.packs * kTilePack, a.y.c,
                partial + static_cast<long>(blockIdx.y) * kMomentRows * a.y.c);
}

template <class T, int K, int S, bool kExpanded>
void run(CudaContext& context, const DepthwiseForward& args) {
  const int c = args.y.c;
  constexpr Patch kPatch = ForwardPatch<T, K, S, kExpanded>::kPatch;
  const Tiling tiling =
      cut_tiles({args.y.n, args.y.h, args.y.w, c, kPatch, expanded(args.expansion, 0)});
  float* partial = args.moments.mean
                       ? scratch(context, static_cast<std::size_t>(tiling.chunks) * kMomentRows * c)
                       : nullptr;
  launch(context, "depthwise", depthwise_kernel<T, K, S, kExpanded>, tiling.shape(kPatch), args,
         tiling, partial);
  if (partial) merge_moments(context, partial, tiling.chunks, c, args.moments);
}

}  // namespace

void depthwise(CudaContext& context, const DepthwiseForward& args) {
  check_input(args.x, args.w, args.expansion);
  if (library::depthwise(context, args)) return;
  with_type(args.x.y.type, [&](auto t) {
    with_window(args.w.k, args.stride, [&](auto k, auto s) {
      with_expansion(args.expansion,
                     [&](auto expanded) { run<decltype(t), k(), s(), expanded()>(context, args); });
    });
  });
}

}  // namespace tunas::kernels::cuda
