// Depthwise forward (depthwise.h): walks down the output rows of a strip. Of each input row it
// normalises and activates once, every output row that the row touches has its accumulators in
// registers (M = ceil(k/stride) of them); the oldest is finished, stored and shifted out.
// Leaves the moments of each block and channel, [chunks][4][c], merged by a second kernel.
#include "kernels/depthwise.cuh"
#include "kernels/library.h"

namespace tunas::kernels::cuda {
namespace {

template <class T, int K, int S>
struct ForwardStrip {
  static constexpr int kChannels = K == 7 ? 1 : 2;
  static constexpr int kColumns = 7;
  static constexpr int kIn = (kColumns - 1) * S + K;  // input columns
  static constexpr int kLive = (K + S - 1) / S;       // M
  static constexpr unsigned kAll = (1u << kIn) - 1;
  using Word = Raw<T, kChannels>;

  const DepthwiseForward& a;
  int channel;
  Reader<kChannels> reader;
  float w[K * K][kChannels];
  Spread<kChannels> spread;

  __device__ ForwardStrip(const DepthwiseForward& args, int c0)
      : a(args), channel(c0), reader(args.x, c0) {
#pragma unroll
    for (int i = 0; i < K * K; ++i) {
      load(static_cast<const T*>(a.w.data) + static_cast<long>(i) * a.w.in.max + channel, w[i]);
    }
  }

  /// Loads rows first .. first+S of the image; bit x of `columns`: column x is inside.
  __device__ void fetch(const T* image, int first, int left, unsigned columns,
                        Word (&raw)[S][kIn]) const {
    const int width = a.x.y.w, c = a.x.y.c;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int row = first + s;
      const T* from = image + (static_cast<long>(row) * width + left) * c;
      const unsigned inside = row >= 0 && row < a.x.y.h ? columns : 0u;
      if (inside == kAll) {
#pragma unroll
        for (int x = 0; x < kIn; ++x) raw[s][x] = load_raw<T, kChannels>(from + x * c);
      } else {
#pragma unroll
        for (int x = 0; x < kIn; ++x) {
          raw[s][x] = Word{};
          if (inside >> x & 1) raw[s][x] = load_raw<T, kChannels>(from + x * c);
        }
      }
    }
  }

  __device__ void add_row(const Word (&raw)[kIn], int tap, unsigned columns,
                          float (&acc)[kLive][kColumns * kChannels]) const {
    float u[kIn * kChannels];
    reader.row(raw, columns, u);
#pragma unroll
    for (int m = 0; m < kLive; ++m) {
      const int i = S * (kLive - 1 - m) + tap;
      if (i >= K) continue;
#pragma unroll
      for (int j = 0; j < K; ++j) {
#pragma unroll
        for (int e = 0; e < kColumns * kChannels; ++e) {
          const int q = e / kChannels, ch = e % kChannels;
          acc[m][e] += w[i * K + j][ch] * u[(q * S + j) * kChannels + ch];
        }
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

  __device__ void walk(int n, int begin, int end, int strip) {
    const int left = strip * kColumns * S - a.left, width = a.x.y.w;
    const T* image = static_cast<const T*>(a.x.y.data) +
                     static_cast<long>(n) * a.x.y.h * width * a.y.c + channel;
    unsigned columns = 0;
#pragma unroll
    for (int x = 0; x < kIn; ++x) {
      columns |= static_cast<unsigned>(left + x >= 0 && left + x < width) << x;
    }
    const int valid = a.y.w - strip * kColumns;
    float acc[kLive][kColumns * kChannels] = {};
    Word raw[S][kIn];
    int row = begin * S - a.top;
    fetch(image, row, left, columns, raw);
    T* to = static_cast<T*>(a.y.data) +
            ((static_cast<long>(n) * a.y.h + begin) * a.y.w + strip * kColumns) * a.y.c + channel;
    for (int p = begin - (kLive - 1); p < end; ++p, row += S) {
      Word next[S][kIn];
      fetch(image, p + 1 < end ? row + S : -S, left, columns, next);
#pragma unroll
      for (int s = 0; s < S; ++s) {
        if (row + s >= 0 && row + s < a.x.y.h) add_row(raw[s], s, columns, acc);
      }
      if (p >= begin) {
        finish_row(to, valid, acc[0]);
        to += static_cast<long>(a.y.w) * a.y.c;
      }
#pragma unroll
      for (int m = 0; m < kLive; ++m) {
#pragma unroll
        for (int e = 0; e < kColumns * kChannels; ++e) {
          acc[m][e] = m + 1 < kLive ? acc[(m + 1) % kLive][e] : 0;
        }
      }
#pragma unroll
      for (int s = 0; s < S; ++s) {
#pragma unroll
        for (int x = 0; x < kIn; ++x) raw[s][x] = next[s][x];
      }
    }
  }
};

template <class T, int K, int S>
__global__ void __launch_bounds__(kStripThreads, 3)
    depthwise_kernel(DepthwiseForward a, Strips strips, float* partial) {
  using Strip = ForwardStrip<T, K, S>;
  __shared__ float buffer[kBatch * kStripThreads];
  const int c = a.y.c;
  const StripPlace place(strips, Strip::kChannels, c);
  Strip strip(a, place.channel);
  each_strip(strips, place,
             [&](int n, int begin, int end, int column) { strip.walk(n, begin, end, column); });
  if (!partial) return;
  const int lanes = strips.cut.lanes;
  write_moments(strip.spread, buffer, lanes, strips.cut.slots,
                static_cast<int>(blockIdx.x) * lanes * Strip::kChannels, c,
                partial + static_cast<long>(blockIdx.y) * kMomentRows * c);
}

}  // namespace

void depthwise(CudaContext& context, const DepthwiseForward& args) {
  require(!args.x.gate, "depthwise on CUDA takes no gated source; write it out with mix first");
  require(args.w.type == args.x.y.type, "depthwise on CUDA takes weights of the type of x");
  if (library::depthwise(context, args)) return;
  with_type(args.x.y.type, [&](auto t) {
    with_window(args.w.k, args.stride, [&](auto k, auto s) {
      using T = decltype(t);
      using Strip = ForwardStrip<T, k(), s()>;
      const int c = args.y.c;
      const Strips strips =
          cut_strips(args.y.n, args.y.h, args.y.w, c, Strip::kChannels, Strip::kColumns);
      float* partial =
          args.moments.mean
              ? scratch(context, static_cast<std::size_t>(strips.chunks) * kMomentRows * c)
              : nullptr;
      launch(context, "depthwise", depthwise_kernel<T, k(), s()>, strips.shape(), args, strips,
             partial);
      if (partial) merge_moments(context, partial, strips.chunks, c, args.moments);
    });
  });
}

}  // namespace tunas::kernels::cuda
